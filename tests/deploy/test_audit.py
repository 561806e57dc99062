"""What pip-audit's list means."""

from __future__ import annotations

import pytest

from deploy.errors import DeployError
from deploy.image.audit import judged

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
