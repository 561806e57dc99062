"""Entry of `python -m deploy.rehearsal`."""

from __future__ import annotations

import sys

from deploy.rehearsal.cli import main

sys.exit(main())
