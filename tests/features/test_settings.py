from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from features.errors import SchemaError
from features.fitting import FeatureSettings
from jobs.errors import SettingsError
from tests.home_credit import APPLICATION, PORTFOLIO

VALID = {
    "sets": ["baseline", "domain"],
    "without": ["sex"],
    "category_min_count": 20,
    "clip": {"lower": 0.01, "upper": 0.99},
    "filters": {"constant": 0.99, "correlation": None, "importance": 0.0},
}


def refusal(folder: Path, content: str) -> str:
    """What is said about the file, after its name."""
    path = folder / "settings.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        FeatureSettings.load(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_feature_settings_are_read(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(VALID))
    loaded = FeatureSettings.load(path)
    assert loaded.sets == ("baseline", "domain")
    assert loaded.without == ("sex",)
    assert loaded.clip is not None
    assert (loaded.clip.lower, loaded.clip.upper) == (0.01, 0.99)
    assert (loaded.filters.constant, loaded.filters.correlation, loaded.filters.importance) == (0.99, None, 0.0)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("filters.constnat", {"filters": {**VALID["filters"], "constnat": 1}}),
        ("filters.constant", {"filters": {**VALID["filters"], "constant": 0}}),
        ("filters.constant", {"filters": {**VALID["filters"], "constant": 1.01}}),
        ("filters.correlation", {"filters": {**VALID["filters"], "correlation": 0}}),
        ("filters.correlation", {"filters": {**VALID["filters"], "correlation": 1.01}}),
        ("filters.importance", {"filters": {**VALID["filters"], "importance": -0.01}}),
        ("filters.importance", {"filters": {**VALID["filters"], "importance": 1.01}}),
        ("clip.lower", {"clip": {"lower": 0.5, "upper": 0.99}}),
        ("clip.lower", {"clip": {"lower": -0.01, "upper": 0.99}}),
        ("clip.upper", {"clip": {"lower": 0.01, "upper": 0.5}}),
        ("clip.upper", {"clip": {"lower": 0.01, "upper": 1.01}}),
        ("category_min_count", {"category_min_count": 0}),
    ],
)
def test_a_feature_setting_that_is_not_legal_is_named(tmp_path, key, change):
    said = refusal(tmp_path, yaml.safe_dump(VALID | change))
    assert said.startswith(f"{key}: ")
    assert ";" not in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"without": ["religion"]}, "features.without: must be of sex, marital_status, age, not religion"),
        ({"sets": ["baseline", "bureau"]}, f"features.sets: must be of {', '.join(PORTFOLIO.sets)}, not bureau"),
        ({"sets": []}, f"features.sets: must be of {', '.join(PORTFOLIO.sets)}, not empty"),
    ],
)
def test_a_name_that_the_portfolio_does_not_declare_is_named(change, said):
    settings = FeatureSettings.model_validate(VALID | change)
    with pytest.raises(SchemaError, match=re.escape(said)):
        settings.sets_of(PORTFOLIO), settings.without_of(PORTFOLIO)


def test_all_stands_for_every_name_of_the_portfolio():
    settings = FeatureSettings.model_validate(VALID | {"sets": "all", "without": "all"})
    assert settings.sets_of(PORTFOLIO) == PORTFOLIO.sets
    assert settings.without_of(PORTFOLIO) == APPLICATION.attributes


@pytest.mark.parametrize(
    "change",
    [
        {"filters": {"constant": 1, "correlation": 1, "importance": 1}},
        {"filters": {"constant": None, "correlation": None, "importance": None}},
        {"clip": None},
        {"clip": {"lower": 0, "upper": 1}},
        {"category_min_count": 1},
        {"without": []},
    ],
    ids=str,
)
def test_a_feature_setting_may_go_to_its_limit(change):
    FeatureSettings.model_validate(VALID | change)


@pytest.mark.parametrize("key", VALID)
def test_no_feature_setting_has_a_default(tmp_path, key):
    rest = {other: value for other, value in VALID.items() if other != key}
    assert refusal(tmp_path, yaml.safe_dump(rest)) == f"{key}: Field required"


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_a_number_must_be_finite(tmp_path, number):
    said = refusal(tmp_path, yaml.safe_dump(VALID).replace("0.01", number))
    assert said.startswith("clip.lower: ")
