"""Entry point of `python -m features`."""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    try:
        from features.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the packages were loaded: a command itself is stopped in order
        sys.stderr.write("stopped by SIGINT\n")
        sys.exit(128 + signal.SIGINT)
