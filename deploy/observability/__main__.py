"""`python -m deploy.observability`: write the files of Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.command import reported
from deploy.observability import __doc__ as description
from deploy.observability.files import rendered, written
from deploy.observability.settings import Observed
from deploy.settings import ROOT


def main(arguments: list[str] | None = None) -> int:
    """0 if the files were written, 1 after one line on standard error if not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.observability", description=description)
    for name, place in (("monitoring", "configs/monitoring.yaml"), ("serving", "configs/serving.yaml")):
        parser.add_argument(f"--{name}", type=Path, default=ROOT / place, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=ROOT / "deploy", metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    return reported(lambda: _write(options))


def _write(options: argparse.Namespace) -> None:
    written(rendered(Observed.load(options.monitoring, options.serving)), options.output)


if __name__ == "__main__":
    sys.exit(main())
