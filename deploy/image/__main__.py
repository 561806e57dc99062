"""Entry of `python -m deploy.image`."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
