"""Entry point of `python -m scoring`."""

from __future__ import annotations

import os
import sys

# OpenMP's threads spin while they wait, which is slow beside any other busy process. Read when LightGBM is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Nothing about a lender's work is told to anybody.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

if __name__ == "__main__":
    from scoring.cli import main

    sys.exit(main())
