from __future__ import annotations

import json

import pytest

from features.catalogue import DEFINITION_DIGEST
from features.errors import SchemaError
from features.transformer import FeatureState

STATE = FeatureState(
    names=("CODE_GENDER", "AMT_CREDIT"),
    vocabularies={"CODE_GENDER": ("F", "M")},
    clip={"AMT_CREDIT": (0.1, 1e9)},
)


def test_a_state_survives_json():
    again = FeatureState.from_dict(json.loads(json.dumps(STATE.to_dict())))
    assert again == STATE
    assert again.names == ("CODE_GENDER", "AMT_CREDIT")
    assert again.vocabularies == {"CODE_GENDER": ("F", "M")}
    assert again.clip == {"AMT_CREDIT": (0.1, 1e9)}


def test_a_state_carries_the_definition_it_was_fitted_with():
    assert STATE.to_dict()["definition"] == DEFINITION_DIGEST


def test_a_state_of_another_definition_is_refused():
    with pytest.raises(SchemaError, match="another feature definition"):
        FeatureState.from_dict(STATE.to_dict() | {"definition": "0" * 64})


@pytest.mark.parametrize(
    ("names", "said"), [(("dti", "AMT_CREDIT"), r"\['dti'\]"), (("AMT_CREDIT", "AMT_CREDIT"), "declared twice")]
)
def test_features_that_are_not_declared_once_are_refused(names, said):
    with pytest.raises(SchemaError, match=said):
        FeatureState(names=names, vocabularies={}, clip={})


def test_a_category_without_a_vocabulary_is_refused():
    with pytest.raises(SchemaError, match="CODE_GENDER"):
        FeatureState(names=("CODE_GENDER", "AMT_CREDIT"), vocabularies={}, clip={})
