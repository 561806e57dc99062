"""Puts together what MkDocs reads: `python -m docs OUTPUT`."""

from __future__ import annotations

import argparse
from pathlib import Path

from docs.pages import write_pages


def main() -> None:
    """Write every page below the folder that is named, which is emptied before."""
    parser = argparse.ArgumentParser(prog="python -m docs", description=main.__doc__)
    parser.add_argument("output", type=Path, help="folder of the pages")
    write_pages(parser.parse_args().output)


if __name__ == "__main__":
    main()
