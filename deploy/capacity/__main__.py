"""Entry of `python -m deploy.capacity`."""

from __future__ import annotations

import sys

from deploy.capacity.cli import main

sys.exit(main())
