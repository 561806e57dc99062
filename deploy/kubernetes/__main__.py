"""Entry of `python -m deploy.kubernetes`."""

from __future__ import annotations

import sys

from deploy.kubernetes.cli import main

sys.exit(main())
