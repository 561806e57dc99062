"""Progress of long work: a bar on a terminal, plain lines elsewhere; and where a signal ends it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from scoring.stopping import stop_if_asked

Advance = Callable[..., object]


class Progress:
    """Reports steps to a stream; `quiet` reports nothing."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """One step; call what is yielded with the amount that was done, by default 1.

        A signal ends the command there, or before the step (`stop_if_asked`).
        """
        stop_if_asked()
        with self._shown(name, total) as show:

            def advance(done: int = 1) -> None:
                show(done)
                stop_if_asked()

            yield advance

    @contextmanager
    def _shown(self, name: str, total: int | None) -> Iterator[Callable[[int], object]]:
        started = time.monotonic()
        if self._quiet:
            yield lambda _: None
        elif self._stream.isatty():
            from tqdm import tqdm

            with tqdm(total=total, desc=name, file=self._stream) as bar:
                yield bar.update
        else:
            self.line(f"{name} ...")
            yield lambda _: None
            self.line(f"{name}: {time.monotonic() - started:.1f} s")

    def line(self, text: str) -> None:
        """A line of its own."""
        if not self._quiet:
            self._stream.write(f"{text}\n")
            self._stream.flush()
