"""A PostgreSQL of the tests' own: on loopback, in a folder of its own, stopped at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server import free_port

_USER = "nobody"  # PostgreSQL refuses to run as root


def installed() -> Path | None:
    """The folder of PostgreSQL's programs, None where there is none."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = versions[-1] if versions else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def running(programs: Path) -> Iterator[str]:
    """The address of a database that nobody else uses."""
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
    if os.getuid() == 0:
        shutil.chown(folder, _USER)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -c unix_socket_directories="
    try:
        _run(programs / "initdb", "--auth=trust", "--username=tests", "--no-sync", f"--pgdata={folder}")
        _run(programs / "pg_ctl", "start", "--wait", f"--pgdata={folder}", f"--log={folder}/log", "-o", options)
        try:
            yield f"postgresql://tests@127.0.0.1:{port}/postgres"
        finally:
            _run(programs / "pg_ctl", "stop", "--mode=fast", f"--pgdata={folder}")
    finally:
        shutil.rmtree(folder)


def _run(program: Path, *arguments: str) -> None:
    user = _USER if os.getuid() == 0 else None
    subprocess.run([str(program), *arguments], check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
