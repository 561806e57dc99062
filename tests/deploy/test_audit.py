"""What pip-audit's list means, which locks it is asked about, and what an image may stand on."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.errors import DeployError
from deploy.image.audit import LOCKS, audit, judged
from deploy.image.build import BASE, build
from tests.server import ROOT

CLEAN = {"name": "numpy", "version": "2.4.0", "vulns": []}
SKIPPED = {"name": "bentoml", "skip_reason": "not found"}
VULNERABLE = {"name": "aiohttp", "version": "3.0", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}


def test_what_could_not_be_looked_up_is_named() -> None:
    assert judged([CLEAN, SKIPPED]) == "1 packages without known vulnerabilities; no data of 1: bentoml"


@pytest.mark.parametrize(
    ("packages", "said"),
    [([CLEAN, VULNERABLE], "aiohttp: CVE-1, CVE-2"), ([SKIPPED], "not audited: the data of none of 1 packages")],
)
def test_a_vulnerable_package_fails_and_so_does_no_data_at_all(packages: list[dict[str, object]], said: str) -> None:
    with pytest.raises(DeployError, match=said):
        judged(packages)


def test_every_lock_is_audited() -> None:
    names = {"deploy", "dev", "docs", "infrastructure", "offline", "sbom", "serving", "spark", "tracking"}
    assert {lock.stem for lock in LOCKS} == names == {lock.stem for lock in (ROOT / "requirements").glob("*.txt")}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with a program that takes pip-audit's options and answers with what the lock itself holds."""
    (tmp_path / "tools").mkdir()
    program = tmp_path / "tools" / "pip-audit"
    program.write_text('#!/bin/sh\ntest "$1" = --requirement && cat "$2"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program.parent


def written(folder: Path, **answers: str) -> list[Path]:
    for name, answer in answers.items():
        (folder / f"{name}.txt").write_text(answer)
    return [folder / f"{name}.txt" for name in answers]


CLEAN_LOCK = '{"dependencies": [{"name": "numpy", "version": "2.4.0", "vulns": []}]}'
BAD_LOCK = '{"dependencies": [{"name": "mlflow", "version": "3.0", "vulns": [{"id": "CVE-3"}]}]}'


def test_each_lock_has_its_line(tools: Path, tmp_path: Path) -> None:
    lines = audit(written(tmp_path, serving=CLEAN_LOCK, tracking=CLEAN_LOCK), tools)
    assert [line.partition(":")[0] for line in lines] == ["serving.txt", "tracking.txt"]


@pytest.mark.parametrize("place", ["serving", "tracking", "offline"])
def test_one_bad_lock_fails_the_audit_after_all_were_looked_at(tools: Path, tmp_path: Path, place: str) -> None:
    locks = dict.fromkeys(("serving", "tracking", "offline"), CLEAN_LOCK) | {place: BAD_LOCK}
    with pytest.raises(DeployError) as failed:
        audit(written(tmp_path, **locks, last=""), tools)
    assert str(failed.value) == f"{place}.txt: mlflow: CVE-3; last.txt: pip-audit failed: exit code 0"


@pytest.mark.parametrize("base", [BASE, f"{BASE}@sha256:abc", "python@sha512:" + "0" * 64])
def test_a_base_without_its_digest_is_refused_where_it_must_be_pinned(base: str) -> None:
    with pytest.raises(DeployError, match="a tag can be moved: name the base with its digest"):
        build("credit_scoring:latest", base, pinned=True)
