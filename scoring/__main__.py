"""Entry point of `python -m scoring`."""

from __future__ import annotations

import os
import signal
import sys

# OpenMP's threads spin while they wait, which slows every other busy process. LightGBM reads this as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# BentoML sends usage data unless this is set; a lender's work is nobody else's business.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

if __name__ == "__main__":
    try:
        from decision_log.cli import COMMANDS
        from scoring.cli import commands, main

        for command in COMMANDS:
            commands.add_command(command)
        sys.exit(main())
    except KeyboardInterrupt:  # while the packages were loaded: a command itself is stopped in order
        sys.stderr.write("stopped by SIGINT\n")
        sys.exit(128 + signal.SIGINT)
