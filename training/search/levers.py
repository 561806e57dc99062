"""Levers are what a search for less discriminatory alternatives may change in the settings of a training.

No lever gives the model a protected attribute, and none gives a group a cut-off of its own: that would treat applicants
differently because of the attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from optuna.trial import Trial

from decision_log.format import ClientHash
from features.transformer import Columns, FeatureState, missing_as_nan
from monitoring.fairness import NOT_STATED, read_protected
from monitoring.measures import grouped_auc_estimate
from monitoring.outcomes import client_keys, places
from training.dataset import Dataset
from training.errors import StudyError
from training.fitting import gain
from training.gates import members
from training.search.frontier import Groups
from training.search.study import suggest
from training.settings import TrainingSettings

_BINS = 20
_TOGETHER = (2, 4)
"""How many of the first proxies are left out together in two of the first trials."""
_PARTS = (1.0, 0.3)
"""How strong a fit that reads groups is in the first trials, as a part of the strongest."""


def side_groups(path: Path, dataset: Dataset) -> Groups:
    """The groups of each attribute in a file that names clients; those it does not name are in none."""
    hashing = ClientHash(token_bytes(32))
    protected = read_protected(path, hashing)
    digests = [hashing.digest(str(one)) for one in dataset.ids.tolist()]
    place = places(protected.keys, client_keys(pa.chunked_array([digests])))
    if protected.by != "client_id" or not (place >= 0).any():
        raise StudyError(f"{path}: needs a column client_id with identifiers of the applications")
    return {
        attribute: {group: (place >= 0) & (values[place] == group) for group in sorted(set(values) - {NOT_STATED})}
        for attribute, values in protected.groups.items()
    }


def declared_groups(dataset: Dataset) -> Groups:
    """The groups of each attribute that the portfolio declares."""
    return {attribute: members(dataset.columns, attribute) for attribute in dataset.columns.schema.attributes}


def large_groups(groups: Groups, parts: Sequence[NDArray[np.intp]], least: int) -> Groups:
    """The groups that have `least` rows in every part, of the attributes that have two of them."""
    found = {
        attribute: {name: rows for name, rows in marked.items() if all(rows[part].sum() >= least for part in parts)}
        for attribute, marked in groups.items()
    }
    kept = {attribute: marked for attribute, marked in found.items() if len(marked) > 1}
    if not kept:
        raise StudyError(f"no protected attribute has two groups of {least} applications: nothing to compare")
    return kept


def taken(groups: Groups, rows: NDArray[np.intp]) -> Groups:
    """The groups among some of the rows."""
    return {attribute: {name: mask[rows] for name, mask in marked.items()} for attribute, marked in groups.items()}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A column that tells of a protected attribute.

    `tells` is how well it ranks membership in one group of the attribute, as an AUC. `carries` is how much the features
    that read it add to the difference of mean log-odds between the least and the most approved group.
    """

    column: str
    attribute: str
    tells: float
    carries: float

    @property
    def weight(self) -> float:
        """How much of the difference a proxy explains: what tells of no group carries risk alone."""
        return self.carries * (2 * self.tells - 1) ** 2


def screen_proxies(
    columns: Columns,
    groups: Groups,
    extremes: Mapping[str, tuple[str, str]],
    state: FeatureState,
    contributions: NDArray[np.float64],
) -> list[Proxy]:
    """Screen every raw column that is not protected, the ones that carry most of an attribute into the score first.

    `extremes` names the least and the most approved group of each attribute. `contributions` are those of the features
    of `state` to the log-odds, shape (n, d).
    """
    found = []
    for attribute, (least, most) in extremes.items():
        marked = groups[attribute]
        gaps = contributions[marked[least]].mean(axis=0) - contributions[marked[most]].mean(axis=0)
        for column in columns.schema:
            if column.protected:
                continue
            reading = [column.name in state.portfolio.features[name].sources for name in state.names]
            codes = _codes(columns, column.name)
            tells = max(_told(codes, rows) for rows in marked.values())
            found.append(Proxy(column.name, attribute, tells, float(gaps[reading].sum())))
    return sorted(found, key=lambda proxy: -proxy.weight)


def _codes(columns: Columns, name: str) -> NDArray[np.intp]:
    """The bin or level of each row in a column; what is missing has one of its own."""
    if not columns.schema[name].numeric:
        place = columns.schema.position[name]
        levels = np.array([level or "" for level in columns.levels[:, place]], dtype=object)
        return np.unique(levels.astype(str), return_inverse=True)[1]
    values = missing_as_nan(columns)[:, columns.schema.position[name]]
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else known
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))


def _told(codes: NDArray[np.intp], rows: NDArray[np.bool_]) -> float:
    """AUC with which bins or levels rank the membership of rows; 0.5 where nobody or everybody is a member."""
    # The even rows rank the bins and the odd ones judge them: many bins would tell a little of the rows that rank them.
    width = int(codes.max()) + 1
    counts = np.bincount(codes[::2], minlength=width)
    order = np.argsort(np.bincount(codes[::2][rows[::2]], minlength=width) / np.maximum(counts, 1), kind="stable")
    inside = np.bincount(codes[1::2][rows[1::2]], minlength=width)[order].astype(np.float64)
    outside = np.bincount(codes[1::2][~rows[1::2]], minlength=width)[order].astype(np.float64)
    area = grouped_auc_estimate(inside, outside, 0.95).value
    return 0.5 if np.isnan(area) else area


def directions(booster: lgb.Booster, state: FeatureState, matrix: NDArray[np.float64], most: int) -> dict[str, int]:
    """The directions of the `most` numeric features of the largest gain: those of their contributions' slope."""
    added = np.asarray(booster.predict(matrix, pred_contrib=True), dtype=np.float64)[:, :-1]
    found: dict[str, int] = {}
    for i in np.argsort(-gain(booster), kind="stable"):
        name, values = state.names[i], matrix[:, i]
        known = ~np.isnan(values)
        if len(found) == most or name in state.vocabularies or not np.any(added[known, i]):
            continue
        slope = np.cov(values[known], added[known, i])[0, 1]
        if slope != 0:
            found[name] = 1 if slope > 0 else -1
    return found


@dataclass(frozen=True, slots=True)
class Levers:
    """The levers of one search.

    `columns` may be left out, `monotone` are directions that features may be held to, and `readable` are attributes
    that a fit can read: those of the portfolio, not those of a file beside it.
    """

    settings: TrainingSettings
    columns: tuple[str, ...]
    monotone: Mapping[str, int]
    readable: tuple[str, ...]

    def drawn(self, trial: Trial) -> dict[str, Any]:
        """Draw the value of every lever for a trial."""
        chosen, names = self.settings.alternatives.levers, self._names()
        drawn: dict[str, Any] = {"trees seed": trial.suggest_int("trees seed", 0, chosen.seeds - 1)}
        for name in names:
            drawn[name] = trial.suggest_categorical(name, [False, True])
        if drawn.get("parameters"):
            drawn["searched"] = suggest(trial, self.settings.tuning.space, fixed=("learning_rate",))
        for word, most, attribute in self._strengths():
            name = f"{word} {attribute}"
            drawn[name] = trial.suggest_float(name, 0.0, most, step=0.05)
        return drawn

    def designed(self) -> list[dict[str, Any]]:
        """List the first trials, each once: nothing changed, what is likely to move most, then one lever at a time."""
        every = [*self._designed()]
        return [drawn for place, drawn in enumerate(every) if drawn not in every[:place]]

    def _designed(self) -> Iterator[dict[str, Any]]:
        strengths = list(self._strengths())
        nothing: dict[str, Any] = {"trees seed": 0, **dict.fromkeys(self._names(), False)}
        nothing |= {f"{word} {attribute}": 0.0 for word, _, attribute in strengths}
        together = [{_leaving(column): True for column in self.columns[:last]} for last in _TOGETHER]
        yield nothing
        yield from (nothing | left for left in together)
        for word in dict.fromkeys(word for word, _, _ in strengths):
            for part in _PARTS:
                every = {f"{one} {name}": round(part * most, 2) for one, most, name in strengths if one == word}
                yield nothing | every
                yield nothing | every | together[-1]
        for part in _PARTS:
            yield from (nothing | {f"{word} {name}": round(part * most, 2)} for word, most, name in strengths)
        yield from (nothing | {_leaving(column): True} for column in self.columns)
        if self.monotone:
            yield nothing | {"directions": True}

    def leaves_features(self, drawn: Mapping[str, Any]) -> bool:
        """Whether a model has a feature left with these values."""
        left_out = [column for column in self.columns if drawn[_leaving(column)]]
        sets, portfolio = self.settings.features.sets_of(self.settings.declared), self.settings.declared
        barred = [*self.settings.features.left_out, *left_out]
        return bool(portfolio.select(sets, portfolio.schema.attributes, barred))

    def applied(self, drawn: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings of a training with these values; every protected attribute is out of the model."""
        values = self.settings.model_dump(mode="json")
        model = values["model"]
        values["whole"] = True
        values["features"]["without"] = list(self.settings.declared.schema.attributes)
        left_out = [column for column in self.columns if drawn[_leaving(column)]]
        values["features"]["left_out"] = [*self.settings.features.left_out, *left_out]
        if drawn["trees seed"]:
            model["trees_seed"] = self.settings.seed + int(drawn["trees seed"])
        if drawn.get("directions"):
            chosen = self.settings.features.model_validate(values["features"]).select(self.settings.declared)
            held = {name: way for name, way in self.monotone.items() if name in {one.name for one in chosen}}
            model["monotone"] = held | model["monotone"]
        if drawn.get("parameters"):
            model["parameters"] |= drawn["searched"]
        for word, place in (("reweigh", "reweighing"), ("penalize", "penalty")):
            strengths = {one: drawn.get(f"{word} {one}", 0.0) for one in self.readable}
            model["fairness"][place] |= {one: strength for one, strength in strengths.items() if strength > 0}
        if model["fairness"]["penalty"]:
            # Log-odds of groups close in slowly: at the usual rate such a fit needs thousands of trees.
            model["parameters"]["learning_rate"] = self.settings.alternatives.learning_rate
        return TrainingSettings.model_validate(values)

    def _names(self) -> list[str]:
        chosen = self.settings.alternatives.levers
        names = [_leaving(column) for column in self.columns]
        names += ["directions"] if self.monotone else []
        return names + (["parameters"] if chosen.parameters else [])

    def _strengths(self) -> Iterator[tuple[str, float, str]]:
        chosen = self.settings.alternatives.levers
        for attribute in self.readable:
            if chosen.reweighing:
                yield "reweigh", 2.0, attribute
            if chosen.penalty:
                yield "penalize", 3.0, attribute


def _leaving(column: str) -> str:
    return f"leave out {column}"


def reads(settings: TrainingSettings) -> tuple[str, ...]:
    """The protected attributes that the fit of the trees reads, and no decision."""
    return settings.model.fairness.stated


def changes(before: TrainingSettings, after: TrainingSettings) -> Iterator[str]:
    """Say in words what differs between two settings, as far as a lever changes it."""
    left_out = [name for name in after.features.left_out if name not in before.features.left_out]
    if left_out:
        yield f"without {', '.join(left_out)}"
    if after.model.trees_seed != before.model.trees_seed:
        yield f"seed {after.model.trees_seed} of the trees"
    held = sorted(after.model.monotone.items() - before.model.monotone.items())
    if held:
        yield f"{len(held)} features held to a direction"
    own = before.model.parameters.stated()
    other = {name: value for name, value in after.model.parameters.stated().items() if own.get(name) != value}
    if other:
        yield ", ".join(f"{name} {value:.3g}" for name, value in other.items())
    for word, place in (("reweighing", "reweighing"), ("penalty", "penalty")):
        for attribute, strength in getattr(after.model.fairness, place).items():
            yield f"{word} by {attribute.replace('_', ' ')} {strength:g}"
    if after.policy.cutoff != before.policy.cutoff:
        yield f"cut-off {after.policy.cutoff:.4f}"
