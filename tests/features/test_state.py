from __future__ import annotations

import json

import pytest

from features.errors import SchemaError
from features.transformer import FeatureState
from tests.home_credit import PORTFOLIO

STATE = FeatureState(
    names=("CODE_GENDER", "AMT_CREDIT"),
    vocabularies={"CODE_GENDER": ("F", "M")},
    clip={"AMT_CREDIT": (0.1, 1e9)},
    portfolio=PORTFOLIO,
)


def test_a_state_survives_json():
    again = FeatureState.from_dict(json.loads(json.dumps(STATE.to_dict())), PORTFOLIO)
    assert again == STATE
    assert again.names == ("CODE_GENDER", "AMT_CREDIT")
    assert again.vocabularies == {"CODE_GENDER": ("F", "M")}
    assert again.clip == {"AMT_CREDIT": (0.1, 1e9)}


@pytest.mark.parametrize(
    ("names", "said"), [(("dti", "AMT_CREDIT"), r"\['dti'\]"), (("AMT_CREDIT", "AMT_CREDIT"), "declared twice")]
)
def test_features_that_are_not_declared_once_are_refused(names, said):
    with pytest.raises(SchemaError, match=said):
        FeatureState(names=names, vocabularies={}, clip={}, portfolio=PORTFOLIO)


def test_a_category_without_a_vocabulary_is_refused():
    with pytest.raises(SchemaError, match="CODE_GENDER"):
        FeatureState(names=("CODE_GENDER", "AMT_CREDIT"), vocabularies={}, clip={}, portfolio=PORTFOLIO)
