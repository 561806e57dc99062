from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.portfolios.home_credit.generator.draws import (
    Category,
    LevelShares,
    SynthesisError,
    check_levels,
    choose,
    constant,
    draw_by,
    merged,
    pick,
)


def column(*values: str | None, levels: tuple[str, ...] = ("a", "b")) -> Category:
    codes = [-1 if value is None else levels.index(value) for value in values]
    return Category(levels, np.array(codes, dtype=np.int16))


def values(category: Category) -> list[str | None]:
    return [None if code < 0 else category.levels[code] for code in category.codes]


def test_equals_and_among_ignore_missing_rows():
    assert column("a", "b", None).equals("b").tolist() == [False, True, False]
    assert column("a", "b", None).among(("a", "b")).tolist() == [True, True, False]


def test_only_keeps_the_present_rows():
    assert values(column("a", "b", "a").only(np.array([True, False, True]))) == ["a", None, "a"]


def test_values_of_other_levels_and_missing_rows():
    assert column("a", "b", None).values({"b": 2.0}, otherwise=-1.0).tolist() == [-1.0, 2.0, -1.0]


def test_choose_takes_the_first_mask_that_holds():
    masks = {"x": np.array([True, False, False]), "y": np.array([True, True, False])}
    assert values(choose(masks)) == ["x", "y", None]


def test_merged_unites_the_levels():
    other = column("b", "c", None, levels=("b", "c"))
    assert values(merged(np.array([True, False, False]), column("a", "a", "a"), other)) == ["a", "c", None]
    assert merged(np.array([True]), column("a"), constant("a", 1)).levels == ("a", "b")


def test_pick_follows_the_row():
    picked = pick(np.random.default_rng(0), np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.1]]))
    assert picked.tolist() == [1, 0, 2]


def test_shares_are_drawn_in_proportion():
    drawn = LevelShares.of({"a": 3.0, "b": 1.0, "never": 0.0}).draw(np.random.default_rng(0), 100_000)
    assert np.bincount(drawn.codes, minlength=3) / 100_000 == pytest.approx([0.75, 0.25, 0], abs=0.006)


def test_draw_by_uses_the_shares_of_the_level():
    shares = {"a": LevelShares.of({"x": 1.0, "y": 0.0}), "b": LevelShares.of({"x": 0.0, "y": 1.0})}
    assert values(draw_by(np.random.default_rng(0), column("a", "b", "a"), shares)) == ["x", "y", "x"]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_draws_are_levels(weights, seed):
    drawn = LevelShares.of({str(i): weight for i, weight in enumerate(weights)}).draw(np.random.default_rng(seed), 50)
    assert set(drawn.codes.tolist()) <= set(range(len(weights)))


def test_declared_shares_name_every_level():
    with pytest.raises(SynthesisError, match=r"'FLAG_OWN_CAR': not declared \['Maybe'\], without a share \['Y'\]"):
        LevelShares.declared("FLAG_OWN_CAR", {"N": 0.5, "Maybe": 0.5})


def test_missing_codes_may_have_a_share():
    check_levels("CODE_GENDER", {"F": 1, "M": 1, "XNA": 1})
