from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from features.application import APPLICATION
from features.errors import SchemaError
from features.schema import Column, ColumnKind, ProtectedAttribute, Schema

AGE = Column(
    name="AGE",
    kind=ColumnKind.COUNT,
    description="Age",
    unit="years",
    low=0,
    high=120,
    protected=ProtectedAttribute.AGE,
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
        ((ProtectedAttribute.SEX,), set()),
        ((ProtectedAttribute.AGE,), {"AGE"}),
        (tuple(ProtectedAttribute), {"AGE"}),
    ],
)
def test_the_columns_that_state_a_protected_attribute(attributes, names):
    assert TABLE.protected(attributes) == names


def test_every_protected_attribute_is_meant_if_none_is_named():
    assert APPLICATION.protected() == {"CODE_GENDER", "NAME_FAMILY_STATUS", "DAYS_BIRTH"}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "DAYS"},
        {"kind": ColumnKind.NUMBER},
        {"description": "Years of age"},
        {"unit": "days"},
        {"low": 1},
        {"high": 121},
        {"required": True},
        {"missing": (-1.0,)},
        {"protected": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_changes_with_every_property_of_a_column(change):
    assert replace(TABLE, columns=(replace(AGE, **change), CITY, PRICE)).digest != TABLE.digest


@pytest.mark.parametrize(
    "change",
    [
        {"id_column": "KEY"},
        {"target_column": "TARGET"},
        {"columns": (AGE, PRICE, CITY)},
        {"columns": (AGE, CITY)},
        {"columns": (AGE, replace(CITY, levels=("A", "B", "C")), PRICE)},
    ],
    ids=["id_column", "target_column", "order", "fewer", "levels"],
)
def test_the_digest_changes_with_the_table(change):
    assert replace(TABLE, **change).digest != TABLE.digest


def test_the_digest_is_of_the_names_and_values_in_their_alphabet():
    """Artefacts hold it: another form of the same declaration would make each of them useless."""
    table = Schema(id_column="ID", target_column="BAD", columns=(PRICE,))
    form = (
        '["ID", "BAD", {"description": "Price", "high": 9, "kind": "number", "levels": [], "low": 1, "missing": [], '
        '"name": "PRICE", "protected": null, "required": true, "unit": "currency"}]'
    )
    assert table.digest == hashlib.sha256(form.encode()).hexdigest()


def test_the_digest_of_an_equal_declaration_is_equal():
    again = Schema(id_column="ID", target_column="BAD", columns=(replace(AGE), replace(CITY), replace(PRICE)))
    assert again.digest == TABLE.digest
