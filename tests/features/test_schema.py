from __future__ import annotations

from dataclasses import replace

import pytest

from features.errors import SchemaError
from features.schema import Column, ColumnKind, Protection, Schema
from tests.home_credit import APPLICATION, PROTECTED

AGE = Column(
    name="AGE",
    kind=ColumnKind.COUNT,
    description="Age",
    unit="years",
    low=0,
    high=120,
    protections=(Protection(attribute="age", bands=(25.0, 62.0), elderly=62.0),),
)
CITY = Column(
    name="CITY", kind=ColumnKind.CATEGORY, description="City", unit="level", missing=("XNA",), levels=("A", "B")
)
PRICE = Column(name="PRICE", kind=ColumnKind.NUMBER, description="Price", unit="currency", low=1, high=9, required=True)
TABLE = Schema(id_column="ID", target_column="BAD", columns=(AGE, CITY, PRICE))


def test_a_schema_is_its_columns_in_their_order():
    assert tuple(TABLE) == (AGE, CITY, PRICE)
    assert len(TABLE) == 3
    assert TABLE["CITY"] is CITY
    assert "CITY" in TABLE
    assert "ID" not in TABLE


def test_numbers_and_categories_have_their_own_positions():
    assert TABLE.numeric == (AGE, PRICE)
    assert TABLE.categorical == (CITY,)
    assert TABLE.position == {"AGE": 0, "PRICE": 1, "CITY": 0}
    assert (TABLE.low.tolist(), TABLE.high.tolist(), TABLE.whole.tolist()) == ([0, 1], [120, 9], [True, False])


def test_a_name_that_is_not_declared_is_named():
    with pytest.raises(SchemaError, match=r"^column 'DTI' is not declared$"):
        TABLE["DTI"]


@pytest.mark.parametrize("name", ["AGE", "ID", "BAD"])
def test_a_column_is_declared_once(name):
    with pytest.raises(SchemaError, match="declared twice"):
        Schema(id_column="ID", target_column="BAD", columns=(AGE, replace(PRICE, name=name)))


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ((), set()),
        (("sex",), set()),
        (("age",), {"AGE"}),
        (PROTECTED, {"AGE"}),
    ],
)
def test_the_columns_that_state_a_protected_attribute(attributes, names):
    assert TABLE.protected(attributes) == names


def test_the_protected_attributes_are_those_of_the_columns_in_their_order():
    assert APPLICATION.attributes == ("sex", "marital_status", "age")
    assert APPLICATION.protected(PROTECTED) == {"CODE_GENDER", "NAME_FAMILY_STATUS", "DAYS_BIRTH"}


def test_the_column_that_states_an_attribute_is_found_with_its_groups():
    column, protection = TABLE.stating("age")
    assert (column, protection.bands) == (AGE, (25.0, 62.0))
    with pytest.raises(SchemaError, match="no column states the protected attribute 'sex'"):
        TABLE.stating("sex")
