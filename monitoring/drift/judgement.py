"""The judgement of a window: what has drifted, whether that is worth an alarm, and which column is to blame.

The alarm goes off when the score has drifted, when any feature has major drift, or when the features with moderate
drift carry enough of the model's gain. Half of the stated rate of false alarms is for the score, the other for the
features together: with no drift at all, whatever is found is a false alarm, and Benjamini and Hochberg's procedure
finds something with that probability at most, however many features there are. That a shift must be material as well
only makes false alarms rarer. A column that follows a calendar is judged over whole periods only; see `calendar`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features import Calendar
from monitoring.errors import WindowError
from scoring import DriftReference

from .calendar import partial
from .culprit import Culprit, carried_importance, rank_culprits
from .settings import DriftSettings
from .shift import Level, Shift, measure
from .window import Window

SCORE = "score (PD)"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of a window.

    Attributes
    ----------
    rows, reference_rows : of the window and of what it was compared with
    false_alarm_rate : share of windows without drift that may raise the alarm
    score : shift of the PD
    features : shifts in the order of the model matrix
    culprits : the columns behind the drifting features, the first to look at first
    reasons : why the alarm goes off; empty if it does not
    """

    rows: int
    reference_rows: int
    false_alarm_rate: float
    score: Shift
    features: tuple[Shift, ...]
    culprits: tuple[Culprit, ...]
    reasons: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether somebody must look."""
        return bool(self.reasons)

    @property
    def drifted(self) -> tuple[Shift, ...]:
        """The features that have drifted."""
        return tuple(shift for shift in self.features if shift.level > Level.STABLE)


def judge(
    model: DriftReference,
    window: Window,
    settings: DriftSettings,
    *,
    base: Window | None = None,
    whole: frozenset[Calendar] = frozenset(),
) -> Judgement:
    """The judgement of `window` against the model's reference, or against `base` where that is given.

    `whole` are the calendars of which the window covers whole periods: none if nothing is known of its time.
    WindowError for fewer rows than the settings ask for, or counts over other bins than the model's.
    """
    base = base or Window.reference(model)
    for name, counted in (("the window", window), ("the reference", base)):
        _check(model, counted, settings, name)
    features = _features(model, base, window, settings, partial(model.features, whole))
    score = _score(model, base, window, settings)
    return Judgement(
        rows=window.rows,
        reference_rows=base.rows,
        false_alarm_rate=settings.false_alarm_rate,
        score=score,
        features=tuple(features),
        culprits=rank_culprits(features),
        reasons=tuple(_reasons(score, features, settings)),
    )


def _features(
    model: DriftReference, base: Window, window: Window, settings: DriftSettings, part: NDArray[np.bool_]
) -> list[Shift]:
    importance = {name: model.importance[name] for name in model.features}
    gain = {"importance": np.array([*importance.values()]), "carried": carried_importance(importance)}
    tightened = np.where(gain["carried"] >= settings.importance.important, settings.importance.tightened, 1.0)
    counts = base.features, window.features
    return measure(model.features, gain, *counts, settings, tightened=tightened, partial=part)


def _score(model: DriftReference, base: Window, window: Window, settings: DriftSettings) -> Shift:
    counts = base.probability[np.newaxis], window.probability[np.newaxis]
    gain = {"importance": np.ones(1), "carried": np.ones(1)}
    return measure({SCORE: model.probability}, gain, *counts, settings, tightened=np.ones(1))[0]


def _check(model: DriftReference, window: Window, settings: DriftSettings, name: str) -> None:
    if window.features.shape != model.counts.shape or len(window.probability) != model.probability.size:
        raise WindowError(f"{name} was counted over other bins than those of the model")
    if window.rows < settings.min_rows:
        raise WindowError(f"{name} has {window.rows} rows, fewer than the {settings.min_rows} that can be judged")


def _reasons(score: Shift, features: Sequence[Shift], settings: DriftSettings) -> list[str]:
    reasons = []
    if score.level > Level.STABLE:
        reasons.append(f"the score has {score.level.name.lower()} drift: PSI {score.excess:.3f} beyond chance")
    major = sum(shift.level is Level.MAJOR for shift in features)
    if major:
        reasons.append(f"major drift of {major} feature{'s' * (major > 1)}")
    drifted = [shift for shift in features if shift.level > Level.STABLE]
    carried = max([sum(shift.importance for shift in drifted), *(shift.carried for shift in drifted)])
    if drifted and carried >= settings.importance.alarming:
        reasons.append(f"{carried:.1%} of the model's gain rests on features that have drifted")
    return reasons
