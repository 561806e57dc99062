"""The tables of what the model reads: its main features, its categories, and what happens to absent values."""

from __future__ import annotations

from collections.abc import Iterator

from features import APPLICATION, CATALOGUE
from training.fitting import TrainedModel
from training.settings import TrainingSettings

from .cells import NOTHING, count, percent
from .table import Row, Table

_DESCRIPTIONS = {feature.name: feature.description for feature in CATALOGUE}
_DIRECTIONS = {None: "free", -1: "PD may only fall", 1: "PD may only rise"}


def feature_table(trained: TrainedModel, settings: TrainingSettings) -> Table:
    """The main features by their contributions."""
    gain = dict(trained.importance)
    total = max(sum(gain.values()), 1e-300)
    main = trained.interpretation.contributions[: settings.report.features]
    rows = (
        (
            name,
            _DESCRIPTIONS[name],
            percent(share),
            percent(gain[name] / total),
            _missing(trained, name),
            _DIRECTIONS[settings.model.monotone.get(name)],
        )
        for name, share in main
    )
    return Table.of("llrrrl", ("feature", "what it is", "contribution", "gain", "missing", "direction"), rows)


def category_table(trained: TrainedModel) -> Table:
    """What the model knows of each category."""

    def row(name: str) -> Row:
        counts = trained.reference.features[name].counts
        known = len(trained.features.vocabularies[name])
        return name, str(known), percent(counts[-2] / trained.reference.rows), _missing(trained, name)

    names = (name for name in trained.features.names if name in trained.features.vocabularies)
    return Table.of("lrrr", ("category", "known levels", "applications of other levels", "missing"), map(row, names))


def rule_table(trained: TrainedModel, settings: TrainingSettings) -> Table:
    """What is done with values that are absent, unknown or impossible."""
    return Table.of("ll", ("what arrives", "what the model does with it"), _rules(trained, settings))


def _rules(trained: TrainedModel, settings: TrainingSettings) -> Iterator[Row]:
    required = ", ".join(column.name for column in APPLICATION if column.required)
    coded = [f"{column.name} {code:g}" for column in APPLICATION.numeric for code in map(float, column.missing)]
    rare = settings.features.category_min_count
    yield "a required column is absent", f"the application is refused; required are {required}"
    yield "a value of any other column is absent", "missing: each split of a tree sends it the way learned in training"
    yield "a code for not known", f"read as missing: {', '.join(coded)}; XNA in categories"
    yield "a value out of the declared bounds", "the application is refused, with the column and the rule"
    clipped = len(trained.features.clip)
    if clipped and settings.features.clip is not None:
        clip = settings.features.clip
        tails = f"its quantiles {clip.lower:g} and {clip.upper:g} in training"
        yield "an extreme but legal number", f"clipped to {tails}, in {clipped} columns"
    shared = (
        f"a code of its own, shared with levels of fewer than {rare} applications in training; such rows are counted"
    )
    yield "a category's level that is not known", shared
    yield "a ratio that divides by zero or by a missing value", "missing"


def _missing(trained: TrainedModel, name: str) -> str:
    bins = trained.reference.features.get(name)
    return NOTHING if bins is None else percent(bins.counts[-1] / trained.reference.rows)


def left_out(settings: TrainingSettings) -> Table:
    """The columns that state a protected attribute, and whether features may read them."""
    barred = APPLICATION.protected(settings.features.without)
    columns = [column for column in APPLICATION if column.protected is not None]
    rows = (
        (
            column.name,
            str(column.protected).replace("_", " "),
            "kept out, with everything derived from it" if column.name in barred else "IN the model",
        )
        for column in columns
    )
    return Table.of("lll", ("column", "states", "the model"), rows)


def feature_counts(trained: TrainedModel) -> str:
    """How many features the model reads, in words."""
    raw = sum(name in APPLICATION for name in trained.features.names)
    return f"{count(len(trained.features.names))} features, {count(raw)} of them raw columns"
