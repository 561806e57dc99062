"""`python -m training` starts here."""

from __future__ import annotations

import os
import signal
import sys

# OpenMP's threads spin while they wait, which is slow beside any other busy process. Read when LightGBM is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# MLflow and BentoML send usage figures by default, and a lender's work is nobody else's business.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# MLflow repeats a request for minutes if its server does not answer.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

if __name__ == "__main__":
    try:
        from training.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the packages were loaded: a command itself is stopped in order
        sys.stderr.write("stopped by SIGINT\n")
        sys.exit(128 + signal.SIGINT)
