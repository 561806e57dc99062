"""Entry point of `python -m monitoring`."""

from __future__ import annotations

import os
import signal
import sys

# BentoML reports its use to its makers unless this is set; a lender's work concerns nobody else.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

if __name__ == "__main__":
    try:
        from monitoring.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the packages were loaded: a command itself is stopped in order
        sys.stderr.write("stopped by SIGINT\n")
        sys.exit(128 + signal.SIGINT)
