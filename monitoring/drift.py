"""The judgement of drift: measures the shift of each feature and of the score, and decides on the alarm.

Columns that follow a calendar, such as the weekday of the application, repeat. Their values, and those of features made
of them, are judged only if the window covers whole periods. Otherwise they are shown, and only their missing values and
unknown categories are judged, which have no season.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.schema import Calendar
from monitoring import statistics
from monitoring.errors import WindowError
from monitoring.settings import DriftSettings
from monitoring.statistics import Counts, Floats
from scoring.drift_reference import Bins, DriftReference, Window

PERIODS = {Calendar.DAY: timedelta(days=1), Calendar.WEEK: timedelta(weeks=1)}
WHOLE = frozenset(Calendar)
_TOLERANCE = 0.02
"""Part of a window that may exceed or lack whole periods: it changes a share too little to reach any bound."""


def whole_periods(covered: timedelta) -> frozenset[Calendar]:
    """The calendars of which a stretch of time covers whole periods, to within a fiftieth of it."""
    return frozenset(calendar for calendar, period in PERIODS.items() if _is_whole(covered / period))


def partial(model: DriftReference, whole: frozenset[Calendar]) -> NDArray[np.bool_]:
    """Which of the features follow a calendar whose periods the window does not cover whole."""
    return np.array([not model.calendars.get(name, frozenset()) <= whole for name in model.features])


def _is_whole(periods: float) -> bool:
    return round(periods) >= 1 and abs(periods - round(periods)) <= _TOLERANCE * periods


_CHANCE = 0.99
_TOGETHER = 128
"""Bins of the features that are measured in one table; a wider one would pad all of them to its width."""


class DriftLevel(IntEnum):
    """How much a feature or the score has drifted."""

    STABLE = 0
    MODERATE = 1
    MAJOR = 2


@dataclass(frozen=True, slots=True)
class Shift:
    """The measured shift of one feature, or of the score.

    Attributes
    ----------
    importance : share of the model's gain; 1 for the score
    carried : importance plus its part of the features that are derived from it
    psi : PSI of the counts
    excess : PSI less its mean for samples of one population, at least 0; this is compared with the bounds
    chance : PSI that such samples exceed in one of a hundred windows
    moderate, major : the bounds
    ks : Kolmogorov-Smirnov on the bins, of values that are present; NaN for a category
    jensen_shannon : distance in [0, 1]
    missing, unseen : share of the window
    missing_shift, unseen_shift : that share minus the share of the reference
    p_value : of this change, at these sizes
    adjusted : p-value, adjusted for the number of features
    partial : whether its values are not judged: it follows a calendar whose periods the window is not known to cover
        whole, or it is a score without roll-ups
    """

    name: str
    importance: float
    carried: float
    psi: float
    excess: float
    chance: float
    moderate: float
    major: float
    ks: float
    jensen_shannon: float
    missing: float
    missing_shift: float
    unseen: float
    unseen_shift: float
    p_value: float
    adjusted: float
    significant: bool
    partial: bool
    level: DriftLevel


def measure(
    bins: Mapping[str, Bins],
    gain: Mapping[str, Floats],
    reference: Counts,
    window: Counts,
    settings: DriftSettings,
    *,
    bound_factor: Floats,
    partial: NDArray[np.bool_] | None = None,
) -> list[Shift]:
    """Measure the shift of each of `bins` between two sets of counts, as one family of tests.

    The counts are flat, as of `DriftReference.bin`. The following have shape (bins,). `gain` holds importance and
    carried. `bound_factor` multiplies the bounds. Where `partial`, only missing values and unknown categories are
    judged. The family gets half of the rate of false alarms.
    """
    partial = np.zeros(len(bins), dtype=np.bool_) if partial is None else partial
    measured: dict[str, NDArray[Any]] = {
        **gain,
        **_figures([*bins.values()], reference, window, partial),
        "moderate": settings.psi.moderate * bound_factor,
        "major": settings.psi.major * bound_factor,
        "partial": partial,
    }
    measured["adjusted"] = statistics.benjamini_hochberg(measured["p_value"])
    # The score and the features are two families, and either may raise the alarm. With half of the rate for each, their
    # union stays within the stated rate however they depend on each other (C. Bonferroni, 1936).
    measured["significant"] = measured["adjusted"] <= settings.false_alarm_rate / 2
    levels = map(DriftLevel, _levels(measured, settings).tolist())
    rows = zip(*(values.tolist() for values in measured.values()), strict=True)
    return [
        Shift(name, level=level, **dict(zip(measured, row, strict=True)))
        for name, level, row in zip(bins, levels, rows, strict=True)
    ]


def _figures(bins: Sequence[Bins], reference: Counts, window: Counts, partial: NDArray[np.bool_]) -> dict[str, Floats]:
    """What is measured of each feature by itself, by the names of `Shift`; shape (bins,)."""
    size = np.array([each.size for each in bins])
    numeric = np.array([each.kind == "numeric" for each in bins])
    groups = _groups(size)
    found = []
    for group in groups:
        before, now = (_table(counts, size, group) for counts in (reference, window))
        found.append(_figures_of_tables(before, now, size[group], numeric[group], partial[group]))
    place = np.argsort(np.concatenate(groups))
    return {name: np.concatenate([figures[name] for figures in found])[place] for name in found[0]}


def _groups(size: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The positions of features of about the same number of bins, from `_TOGETHER` on by powers of two."""
    power = np.ceil(np.log2(np.maximum(size, _TOGETHER)))
    return [np.flatnonzero(power == each) for each in np.unique(power)]


def _table(counts: Counts, size: NDArray[np.intp], group: NDArray[np.intp]) -> Counts:
    """The counts of a group of features, one in each row, with 0 beyond its bins."""
    column = np.arange(size[group].max())
    used = column < size[group, np.newaxis]
    table = np.zeros(used.shape, dtype=np.int64)
    table[used] = counts[((np.cumsum(size) - size)[group, np.newaxis] + column)[used]]
    return table


def _figures_of_tables(
    reference: Counts,
    window: Counts,
    size: NDArray[np.intp],
    numeric: NDArray[np.bool_],
    partial: NDArray[np.bool_],
) -> dict[str, Floats]:
    """The same for features in two tables of counts, shape (features, bins)."""
    present = _present(reference.shape[1], size)
    psi = statistics.psi(reference, window)
    missing, unseen = (statistics.share(window, size - place) for place in (1, 2))
    return {
        "psi": psi,
        "excess": np.maximum(psi - statistics.psi_bias(reference, window), 0.0),
        "chance": statistics.psi_quantile(reference, window, _CHANCE),
        "ks": np.where(numeric, statistics.kolmogorov_smirnov(reference * present, window * present), np.nan),
        "jensen_shannon": statistics.jensen_shannon(reference, window),
        "missing": missing,
        "missing_shift": missing - statistics.share(reference, size - 1),
        "unseen": unseen,
        "unseen_shift": unseen - statistics.share(reference, size - 2),
        "p_value": _p_values(reference, window, size, numeric, partial),
    }


def _p_values(
    reference: Counts,
    window: Counts,
    size: NDArray[np.intp],
    numeric: NDArray[np.bool_],
    partial: NDArray[np.bool_],
) -> Floats:
    """The smallest p-value of three tests, times three.

    The tests are of all bins, of the missing values, and of the order of numbers or the unseen categories. Where only a
    part of a period is seen, the tests of the values are left out.
    """
    ordered = _present(reference.shape[1], size)
    tests = (
        np.where(partial, 1.0, statistics.chi_squared_test(reference, window)),
        statistics.share_test(reference, window, size - 1),
        np.where(
            numeric,
            np.where(partial, 1.0, statistics.rank_sum_test(reference * ordered, window * ordered)),
            statistics.share_test(reference, window, size - 2),
        ),
    )
    # Bonferroni's correction, since the tests look at the same counts and it holds for any dependence.
    p_values: Floats = np.minimum(np.min(tests, axis=0) * len(tests), 1.0)
    return p_values


def _present(width: int, size: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which columns of the counts are bins of known values."""
    present: NDArray[np.bool_] = np.arange(width) < size[:, np.newaxis] - 2
    return present


def _levels(measured: Mapping[str, NDArray[np.float64]], settings: DriftSettings) -> NDArray[np.int64]:
    # 40 % of missing values that become 45 % are a PSI of 0.01 only, and yet a part of the feed may be broken.
    broken = (np.abs(measured["missing_shift"]) >= settings.missing_shift) | (
        measured["unseen_shift"] >= settings.unseen_share
    )
    reached = (measured["excess"] >= measured["moderate"]).astype(int) + (measured["excess"] >= measured["major"])
    reached *= ~measured["partial"].astype(bool)
    # Both conditions must hold: in many rows every difference is significant, and in few rows chance makes a PSI large.
    levels: NDArray[np.int64] = np.where(broken, int(DriftLevel.MAJOR), reached) * (measured["significant"] > 0)
    return levels


@dataclass(frozen=True, slots=True)
class DriftedColumn:
    """A column, the drifting features that it explains, and the sum of their materiality x importance."""

    name: str
    features: tuple[str, ...]
    weight: float


def carried_importance(importance: Mapping[str, float], sources: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
    """The share of the model's gain that rests on each feature: its own, and an equal part of each derived feature's.

    Only sources that are features themselves get a part.
    """
    carried = dict(importance)
    for name, share in importance.items():
        read = {source for source in sources.get(name, ()) if source in importance} - {name}
        for source in read:
            carried[source] += share / len(read)
    return np.array([*carried.values()])


def rank_columns(shifts: Sequence[Shift], sources: Mapping[str, Sequence[str]]) -> tuple[DriftedColumn, ...]:
    """The columns to look at, those of the largest weight first, then those of the larger PSI."""
    by_name = {shift.name: shift for shift in shifts}
    charged: defaultdict[str, list[Shift]] = defaultdict(list)
    for shift in shifts:
        if shift.level > DriftLevel.STABLE:
            charged[_explaining_column(shift, by_name, sources)].append(shift)
    drifted_columns = [
        DriftedColumn(
            name, tuple(shift.name for shift in group), sum(shift.excess * shift.importance for shift in group)
        )
        for name, group in charged.items()
    ]
    return tuple(sorted(drifted_columns, key=lambda column: (-column.weight, -by_name[column.name].excess)))


def _explaining_column(shift: Shift, by_name: Mapping[str, Shift], sources: Mapping[str, Sequence[str]]) -> str:
    # a ratio moves if either of its columns does: the one that moved is the cause, and fixing it mends the others
    read = [by_name[name] for name in sources.get(shift.name, ()) if name in by_name and name != shift.name]
    moved = [source for source in read if source.significant]
    return max(moved, key=lambda source: source.excess).name if moved else shift.name


SCORE = "score (PD)"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgement of one window.

    Attributes
    ----------
    rows, reference_rows : rows of the window and of the reference
    false_alarm_rate : share of windows without drift that may raise the alarm
    score : shift of the PD; None where too few applications had a history
    features : shifts in the order of the model matrix
    drifted_columns : the columns behind the drifting features, in the order in which to look at them
    reasons : why the alarm is raised; empty if it is not
    not_stated : features that are left out, since they read roll-ups that a file does not state
    unavailable : rows whose history was not available; they count for features that read no roll-up alone
    too_few : features that are left out, since they read roll-ups and too few rows had a history
    """

    rows: int
    reference_rows: int
    false_alarm_rate: float
    score: Shift | None
    features: tuple[Shift, ...]
    drifted_columns: tuple[DriftedColumn, ...]
    reasons: tuple[str, ...]
    not_stated: tuple[str, ...] = ()
    unavailable: int = 0
    too_few: tuple[str, ...] = ()

    @property
    def alarm(self) -> bool:
        """Whether somebody must look."""
        return bool(self.reasons)

    @property
    def drifted(self) -> tuple[Shift, ...]:
        """The features that have drifted."""
        return tuple(shift for shift in self.features if shift.level > DriftLevel.STABLE)


def judge(
    model: DriftReference,
    window: Window,
    settings: DriftSettings,
    *,
    base: Window | None = None,
    whole: frozenset[Calendar] = frozenset(),
    unstated: frozenset[str] = frozenset(),
    base_unstated: frozenset[str] = frozenset(),
) -> Judgement:
    """Judge `window` against the model's reference, or against `base` if that is given.

    `whole` holds the calendars whose periods the window covers whole: none if its time is not known. `unstated` and
    `base_unstated` hold roll-ups that could not be counted. What reads one of them is left out, and the score is judged
    only if both lack the same. Where fewer rows than the settings ask for had a history, what reads roll-ups is left
    out, and the score too. WindowError for fewer rows at all, or counts over other bins than the model's.
    """
    base = base or Window.reference(model)
    for name, counted in (("the window", window), ("the reference", base)):
        _check(model, counted, settings, name)
    not_stated = model.reading(unstated | base_unstated)
    few = min(window.available, base.available) < settings.min_rows
    too_few = model.of_histories & ~not_stated & few
    features = _features(model, base, window, settings, partial(model, whole), not_stated | too_few)
    score = None if few else _score(model, base, window, settings, partial=unstated != base_unstated)
    return Judgement(
        rows=window.rows,
        reference_rows=base.rows,
        false_alarm_rate=settings.false_alarm_rate,
        score=score,
        features=tuple(features),
        drifted_columns=rank_columns(features, model.sources),
        reasons=tuple(_reasons(score, features, settings)),
        not_stated=tuple(itertools.compress(model.features, not_stated)),
        unavailable=window.unavailable,
        too_few=tuple(itertools.compress(model.features, too_few)),
    )


def _features(
    model: DriftReference,
    base: Window,
    window: Window,
    settings: DriftSettings,
    part: NDArray[np.bool_],
    left_out: NDArray[np.bool_],
) -> list[Shift]:
    judged = ~left_out
    if not judged.any():
        return []
    importance = {name: model.importance[name] for name in model.features}
    gain = {"importance": np.array([*importance.values()]), "carried": carried_importance(importance, model.sources)}
    bound_factor = np.where(gain["carried"] >= settings.importance.important, settings.importance.bound_factor, 1.0)
    counted = np.repeat(judged, [bins.size for bins in model.features.values()])
    return measure(
        dict(itertools.compress(model.features.items(), judged)),
        {name: values[judged] for name, values in gain.items()},
        base.features[counted],
        window.features[counted],
        settings,
        bound_factor=bound_factor[judged],
        partial=part[judged],
    )


def _score(model: DriftReference, base: Window, window: Window, settings: DriftSettings, *, partial: bool) -> Shift:
    counts = base.probability, window.probability
    gain = {"importance": np.ones(1), "carried": np.ones(1)}
    one = {"bound_factor": np.ones(1), "partial": np.array([partial])}
    return measure({SCORE: model.probability}, gain, *counts, settings, **one)[0]


def _check(model: DriftReference, window: Window, settings: DriftSettings, name: str) -> None:
    if window.features.shape != model.counts.shape or len(window.probability) != model.probability.size:
        raise WindowError(f"{name} was counted over other bins than those of the model")
    if window.rows < settings.min_rows:
        raise WindowError(f"{name} has {window.rows} rows, fewer than the {settings.min_rows} that can be judged")


def _reasons(score: Shift | None, features: Sequence[Shift], settings: DriftSettings) -> list[str]:
    reasons = []
    if score is not None and score.level > DriftLevel.STABLE:
        reasons.append(f"the score has {score.level.name.lower()} drift: PSI {score.excess:.3f} beyond chance")
    major = sum(shift.level is DriftLevel.MAJOR for shift in features)
    if major:
        reasons.append(f"major drift of {major} feature{'s' * (major > 1)}")
    drifted = [shift for shift in features if shift.level > DriftLevel.STABLE]
    # the features' own shares add up; what they carry overlaps, so that only the largest counts
    carried = max([sum(shift.importance for shift in drifted), *(shift.carried for shift in drifted)])
    if drifted and carried >= settings.importance.alarming:
        reasons.append(f"{carried:.1%} of the model's gain rests on features that have drifted")
    return reasons


_SHOWN = 12
_NAMED = 6


def judgement_lines(judgement: Judgement) -> Iterator[str]:
    """The judgement as lines of text: verdict, drifted columns, score, and the features that moved most."""
    from jobs.commandline import table  # a worker of the service judges windows and prints none

    yield f"{judgement.rows:,} applications against {judgement.reference_rows:,} of the reference"
    if judgement.alarm:
        yield f"ALARM: {'; '.join(judgement.reasons)}"
    else:
        yield "no alarm"
    yield f"without drift, at most {judgement.false_alarm_rate:.1%} of windows raise one"
    for place, column in enumerate(judgement.drifted_columns[:_NAMED], start=1):
        others = [name for name in column.features if name != column.name]
        moved = f"; moves {_listed(others)}" if others else ""
        yield f"  {place}. {column.name}: materiality x importance {column.weight:.4f}{moved}"
    if len(judgement.drifted_columns) > _NAMED:
        yield f"  and {len(judgement.drifted_columns) - _NAMED} more columns"
    if partial := unjudged(judgement):
        yield f"shown, but values not judged, since no whole days or weeks are known to be covered: {partial}"
    if count := len(judgement.not_stated):
        and_score = " and the score" if judgement.score is not None and judgement.score.partial else ""
        features = f"{count} feature{'s' * (count > 1)}"
        yield f"not judged, since a file does not state the roll-ups that they read: {features}{and_score}"
    yield from unavailable_lines(judgement)
    yield from table([_TITLES, *map(_row, shown(judgement, _SHOWN))], right=range(1, len(_TITLES)))


def unavailable_lines(judgement: Judgement) -> Iterator[str]:
    """What the rows without an available history are left out of; nothing where there are none."""
    if judgement.unavailable:
        left_out = "left out of the score and of features that read histories"
        yield f"{judgement.unavailable:,} applications whose history was not available: {left_out}"
    if judgement.score is None:
        count = len(judgement.too_few)
        features = f"{count} feature{'s' * (count > 1)}"
        yield f"not judged, since too few applications had a history: {features} and the score"


def shown(judgement: Judgement, most: int) -> list[Shift]:
    """The score where it is judged, and the features that moved most."""
    return [*([] if judgement.score is None else [judgement.score]), *ordered(judgement)[:most]]


def unjudged(judgement: Judgement) -> str:
    """The features whose values are not judged, since they follow a calendar; with commas between them."""
    return ", ".join(shift.name for shift in judgement.features if shift.partial)


def ordered(judgement: Judgement) -> list[Shift]:
    """The features, the most drifted first."""
    return sorted(judgement.features, key=lambda shift: (-shift.level, -shift.excess))


def judgement_json(judgement: Judgement) -> dict[str, Any]:
    """The judgement in JSON-ready form; the KS of a category is null."""
    score = None if judgement.score is None else _plain(judgement.score)
    shifts = {"score": score, "features": [_plain(shift) for shift in judgement.features]}
    return {"alarm": judgement.alarm, **asdict(judgement), **shifts}


_TITLES = ("", "drift", "PSI", "beyond", "p", "KS", "JS", "missing", "change", "gain")


def _row(shift: Shift) -> tuple[str, ...]:
    ks = "" if math.isnan(shift.ks) else f"{shift.ks:.3f}"
    drift = "" if shift.level is DriftLevel.STABLE else shift.level.name.lower()
    return (
        shift.name, drift, f"{shift.psi:.4f}", f"{shift.excess:.4f}", f"{shift.adjusted:.1e}", ks,
        f"{shift.jensen_shannon:.3f}", f"{shift.missing:.1%}", f"{shift.missing_shift:+.1%}",
        f"{shift.importance:.1%}",
    )  # fmt: skip


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _plain(shift: Shift) -> dict[str, Any]:
    values = asdict(shift)
    return {**values, "ks": None if math.isnan(shift.ks) else shift.ks, "level": shift.level.name.lower()}
