"""Entry of `python -m deploy.infrastructure`."""

from __future__ import annotations

import sys

from deploy.infrastructure.cli import main

sys.exit(main())
