"""Entry point of `python -m monitoring`."""

from __future__ import annotations

import os
import sys

# Nothing about a lender's work is told to anybody.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

if __name__ == "__main__":
    from monitoring.cli import main

    sys.exit(main())
