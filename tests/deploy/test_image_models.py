"""Which model of an exported Bento an image is named after, and what its offline commands call each."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import DeployError
from deploy.image.build import name_models

CHAMPION = {"tag": "credit:1-aa", "alias": "credit"}
CHALLENGER = {"tag": "credit:2-bb", "alias": "credit:challenger"}


@pytest.fixture
def bento(tmp_path: Path) -> Path:
    """An exported Bento that serves `credit`, where BentoML has left the challenger as the latest."""
    (tmp_path / "src" / "configs").mkdir(parents=True)
    (tmp_path / "src" / "configs" / "serving.yaml").write_text("model: credit\n")
    (tmp_path / "models" / "credit").mkdir(parents=True)
    (tmp_path / "models" / "credit" / "latest").write_text("2-bb")
    return tmp_path


@pytest.mark.parametrize("models", [[CHAMPION, CHALLENGER], [CHALLENGER, CHAMPION]])
def test_the_champion_is_the_latest_wherever_it_is_listed(bento: Path, models: list[dict[str, str]]) -> None:
    assert name_models(bento, models) == "credit:1-aa"
    assert {file.name: file.read_text() for file in (bento / "models" / "credit").iterdir()} == {
        "latest": "1-aa",
        "challenger": "2-bb",
    }


@pytest.mark.parametrize(
    "other",
    [{"tag": "credit:2-bb"}, {"tag": "other:2-bb", "alias": "other"}, {"tag": "other:2-bb", "alias": "credit:word"}],
)
def test_a_model_without_an_alias_of_its_own_name_has_no_file(bento: Path, other: dict[str, str]) -> None:
    assert name_models(bento, [CHAMPION, other]) == "credit:1-aa"
    assert [file.name for file in bento.rglob("models/*/*")] == ["latest"]


def test_a_bento_without_the_model_that_it_serves_is_refused(bento: Path) -> None:
    with pytest.raises(DeployError, match="no model with the alias credit, which configs/serving"):
        name_models(bento, [CHALLENGER])
