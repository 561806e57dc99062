"""Entry of `python -m deploy.release`."""

from __future__ import annotations

import sys

from deploy.release.cli import main

sys.exit(main())
