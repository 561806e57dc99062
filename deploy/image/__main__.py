"""Entry of `python -m deploy.image`."""

from __future__ import annotations

import sys

from deploy.image.cli import main

sys.exit(main())
