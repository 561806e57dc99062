"""The settings of training: frozen models that configs/training.yaml is read into."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from features.errors import SchemaError
from features.fitting import FeatureSettings
from features.portfolio import FILE_NAME, Portfolio
from features.request import Applications
from jobs.errors import SettingsError
from jobs.settings import Settings, read_document, refuse_open_questions
from scoring.policy import CompletenessRule, ExploreRule, PointScale
from scoring.reasons import ReasonMethod, ReferenceGroup
from training.search_settings import (
    AlternativesSettings,
    ExperimentSettings,
    TreeParameters,
    TuningSettings,
    without_credentials,
)


class EarlyStopping(Settings):
    """Early stopping ends a fit when new trees no longer help on a part of the training fold."""

    share: float = Field(ge=0.05, le=0.5)
    """The share of the training fold that judges and is not fitted on."""
    rounds: int = Field(ge=1)
    """Trees without an improvement after which the fit stops."""


class FairFitSettings(Settings):
    """How protected attributes shape the fit of the trees; no feature and no decision reads them."""

    # Some laws may count even this as treatment by the attribute, so nothing of it is on unless a lender turns it on.
    reweighing: dict[str, Annotated[float, Field(gt=0, le=2)]] = Field(default={})
    """By attribute: 1 weighs the rows as if outcome and group were independent, less does so in part."""
    penalty: dict[str, Annotated[float, Field(gt=0, le=10)]] = Field(default={})
    """By attribute: the weight of the squared covariance between the log-odds and membership in each group."""

    @property
    def stated(self) -> tuple[str, ...]:
        """The attributes that the fit reads, in the order of their names."""
        return tuple(sorted({*self.reweighing, *self.penalty}))


class ModelSettings(Settings):
    """How the trees are fitted."""

    folds: int = Field(ge=2, le=20)
    # SMOTE with ten neighbours, the most that the settings allow, needs eleven defaults in a training fold.
    min_outcomes_per_fold: int = Field(ge=12)
    """Rows of either outcome that each fold must judge; data with fewer is refused."""
    max_trees: int = Field(ge=1, le=100_000)
    early_stopping: EarlyStopping
    threads: int = Field(ge=1, le=1024)
    parameters: TreeParameters
    monotone: dict[str, Literal[-1, 1]]
    """Features with which the PD may only fall (-1) or rise (1)."""
    trees_seed: int | None = Field(default=None, ge=0)
    """The seed of the trees alone, on the same folds; null is the seed of everything."""
    fairness: FairFitSettings = FairFitSettings()


class Scale(Settings):
    """The scale of score points: `base` points at the odds `odds`, and `double` more when the odds double."""

    base: float
    odds: float = Field(gt=0)
    double: float = Field(gt=0)

    def build(self) -> PointScale:
        """Make the scale that scoring uses."""
        return PointScale(base=self.base, odds=self.odds, double=self.double)


class CompletenessSettings(Settings):
    """An approval needs the columns `known` and most of the model's gain; else a person decides."""

    known: tuple[str, ...]
    max_missing_share: float = Field(ge=0, le=1)

    @field_validator("known")
    @classmethod
    def _declared(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if names.count(name) > 1]
        if wrong:
            raise ValueError(f"must be declared columns, each once, not {', '.join(wrong)}")
        return names

    def build(self) -> CompletenessRule:
        """Make the rule that scoring uses."""
        return CompletenessRule(known=self.known, max_missing_share=self.max_missing_share)


class ExploreSettings(Settings):
    """A share of the declines up to a PD is approved at random, so that outcomes of declines become known."""

    share: float = Field(gt=0, lt=1)
    up_to: float = Field(gt=0, le=1)

    def build(self) -> ExploreRule:
        """Make the rule that the service uses."""
        return ExploreRule(share=self.share, up_to=self.up_to)


class PolicySettings(Settings):
    """Costs and bands that make up the decision policy."""

    cost_fn: float = Field(gt=0)
    cost_fp: float = Field(gt=0)
    cutoff: float | None = Field(default=None, gt=0, lt=1)
    """The PD from which an application is predicted to default; null is the one that the costs imply."""
    refer_band: float = Field(ge=0, lt=1)
    """Half-width of the refer band, as a part of the cut-off."""
    level_bounds: tuple[float, float, float]
    scale: Scale
    completeness: CompletenessSettings | None = CompletenessSettings(known=(), max_missing_share=0.55)
    """An approval that breaks this rule goes to a person; null approves by the PD alone. Settings that do not name the
    rule, such as those of older projects, get the share as delivered."""
    explore: ExploreSettings | None = None
    """Null approves no decline at random."""

    @model_validator(mode="after")
    def _explores_declines(self) -> Self:
        implied = self.cost_fp / (self.cost_fp + self.cost_fn)
        declined_from = (implied if self.cutoff is None else self.cutoff) * (1 + self.refer_band)
        if self.explore is not None and self.explore.up_to <= declined_from:
            raise ValueError(
                f"explore.up_to must be above {declined_from:.4f}, from which on applications are declined"
            )
        return self


class EvaluationSettings(Settings):
    """How models are measured, and how wide the intervals are."""

    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=20, le=100_000)
    calibration_bins: int = Field(ge=2, le=1000)
    f_beta: float = Field(gt=0)
    lift_share: float = Field(gt=0, lt=1)


class LeakageSettings(Settings):
    """How well a single column may rank the outcome before it counts as a leak."""

    max_column_auc: float = Field(gt=0.5, le=1)
    """Limit for the lower end of a raw column's interval; data with a declared column above it are refused."""
    max_order_auc: float = Field(gt=0.5, le=1)
    """Limit for the identifier and the order of the rows; above it a warning is printed."""
    rows: int = Field(ge=1000)
    """The most rows that are examined, evenly spaced over the file."""
    confidence: float = Field(gt=0, lt=1)


class OutOfTimeSettings(Settings):
    """The newest applications are set aside; they judge the model and train none."""

    column: str | None = Field(default=None, min_length=1)
    """A column of dates in the file; it never becomes a feature. Null is the portfolio's `decided_on`."""
    share: float = Field(gt=0, le=0.5)


class InterpretationSettings(Settings):
    """How the fitted model is explained."""

    rows: int = Field(ge=100, le=1_000_000)
    """Rows whose contributions are measured."""
    features: int = Field(ge=1, le=30)
    """Main features whose dependence is shown."""
    bins: int = Field(ge=2, le=100)


class ReasonSettings(Settings):
    """How the reasons of declines are computed, and whom an applicant is compared with."""

    method: ReasonMethod
    group: ReferenceGroup
    rows: int = Field(ge=10, le=1_000_000)
    """The most applicants of the reference group."""


class DriftReferenceSettings(Settings):
    """How many quantile bins the artefact keeps of each distribution that monitoring compares with."""

    feature_bins: int = Field(ge=2, le=100)
    probability_bins: int = Field(ge=2, le=100)


class ReportSettings(Settings):
    """What a model's report shows."""

    min_rows: int = Field(ge=10)
    """A smaller group shows only its size: a rate would tell of its members rather than of the model."""
    min_outcomes: int = Field(ge=12)
    """A group with fewer rows of either outcome has no AUC."""
    features: int = Field(ge=1)
    """How many features are listed, the main ones first."""


class ApprovalSettings(Settings):
    """The screening compares approvals of protected groups; see `training.gates`."""

    min_impact_ratio: float = Field(ge=0, le=1)
    limits: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default={})
    """Other limits, by protected attribute; the elderly against the younger keep `min_impact_ratio`."""
    min_rows: int = Field(ge=1)
    """Groups with fewer rows are not judged."""

    def limit(self, attribute: str) -> float:
        """Return the least ratio between two groups of an attribute."""
        return self.limits.get(attribute, self.min_impact_ratio)


class LatencySettings(Settings):
    """How fast one application must be scored."""

    max_milliseconds: float = Field(gt=0)
    applications: int = Field(ge=1)
    """How many applications are timed, one by one; their median is judged."""


class ReasonLimits(Settings):
    """How far a new model may change what declined applicants are told."""

    max_changed: float = Field(ge=0, le=1)
    """Share of the applications that champion and challenger decline whose first reason differs."""
    min_declines: int = Field(ge=1)
    """Fewer are not judged."""


class GateSettings(Settings):
    """The limits that a model must meet before it becomes champion."""

    min_auc: float = Field(ge=0.5, le=1)
    max_ece: float = Field(gt=0, le=1)
    max_cost_ratio: float = Field(gt=0)
    max_auc_loss: float = Field(ge=0, le=1)
    max_cost_increase: float = Field(ge=0)
    fairness: ApprovalSettings
    reasons: ReasonLimits
    latency: LatencySettings


# BentoML 1.4 turns capitals in a name into small letters and allows 63 characters; MLflow keeps any name as it is.
_MODEL_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


class TrackingSettings(Settings):
    """Where runs and models are recorded."""

    uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
    model: str = Field(max_length=63)

    @field_validator("model")
    @classmethod
    def _legal_in_both_stores(cls, name: str) -> str:
        if not _MODEL_NAME.fullmatch(name):
            raise ValueError("must be lower-case letters, digits, and . _ - between them")
        return name


class SyntheticSettings(Settings):
    """The data that the generator draws when no folder is given."""

    clients: int = Field(ge=100)
    seed: int = Field(ge=0)


class RetrainingSettings(Settings):
    """When a new model is trained without being asked for, and on which applications."""

    data: Path | None = None
    """The labelled applications, a folder or a file, where the command names none."""
    matured_days: int = Field(default=0, ge=0)
    """An application counts once so many days have passed since the portfolio's `decided_on`."""
    newest_days: int | None = Field(default=None, ge=1)
    """How many days of matured applications are taken, up to the newest one; null takes all."""
    judged_days: int = Field(default=7, ge=1)
    """How many days of decisions are held against the champion's reference."""
    every_days: int | None = Field(default=None, ge=1)
    """A model as old as this is replaced without drift too; null waits for drift."""
    cooldown_days: float = Field(default=7, ge=0)
    """How long after a retraining none begins."""
    most_per_month: int = Field(default=4, ge=1)
    """The most retrainings of any 30 days."""
    promote: bool = False
    """Whether a model that passes every gate becomes champion at once."""
    on_alert: dict[str, Literal["retrain", "halt"]] = Field(default={})
    """What `receive` does when an alert of this name fires."""


class TrainingSettings(Settings):
    """All of configs/training.yaml, with what the portfolio lays over it."""

    whole: bool = False
    """True where the file is complete, such as one of `alternatives`: the portfolio lays nothing over it."""
    portfolio: Path
    """The portfolio's folder or file; in a settings file, from the folder of that file."""
    seed: int = Field(ge=0)
    features: FeatureSettings
    leakage: LeakageSettings
    out_of_time: OutOfTimeSettings | None
    model: ModelSettings
    policy: PolicySettings
    evaluation: EvaluationSettings
    interpretation: InterpretationSettings
    reasons: ReasonSettings
    drift_reference: DriftReferenceSettings
    report: ReportSettings
    gates: GateSettings
    tracking: TrackingSettings
    synthetic: SyntheticSettings
    experiments: ExperimentSettings
    tuning: TuningSettings
    retraining: RetrainingSettings = RetrainingSettings()
    alternatives: AlternativesSettings = AlternativesSettings()

    @model_validator(mode="after")
    def _bands_do_not_cross(self) -> Self:
        if not 0 < self.policy.level_bounds[0] < self.policy.level_bounds[1] < self.policy.level_bounds[2] < 1:
            raise ValueError("policy.level_bounds must rise within (0, 1)")
        return self

    @model_validator(mode="after")
    def _names_are_of_the_portfolio(self) -> Self:
        # Everything that a run needs at its end is checked before its first fit.
        portfolio, options = self.declared, self.experiments.options
        engineering = self.experiments.feature_engineering
        try:
            features = _resolved(self.features, portfolio)
            features.select(portfolio)
            for sets in engineering.feature_sets.values():
                _resolved(self.features.model_copy(update={"sets": sets}), portfolio)
            for without in options.profiles.values():
                _resolved(self.features.model_copy(update={"without": without}), portfolio)
        except SchemaError as error:
            raise ValueError(str(error)) from None
        # The codes of a category have no order, so LightGBM takes no direction for it.
        numbers = portfolio.features.keys() - {column.name for column in portfolio.schema.categorical}
        for place, monotone in (("model.monotone", self.model.monotone), ("experiments.options", options.monotone)):
            unknown = sorted(set(monotone) - numbers)
            if unknown:
                raise ValueError(f"{place}: not numeric features: {', '.join(unknown)}")
        known = self.policy.completeness.known if self.policy.completeness else ()
        undeclared = [name for name in known if name not in portfolio.schema]
        if undeclared:
            raise ValueError(f"policy.completeness.known: not declared columns: {', '.join(undeclared)}")
        _require_stated(self.gates.fairness.limits, portfolio, "gates.fairness.limits")
        _require_stated(self.model.fairness.stated, portfolio, "model.fairness")
        _require_wording(portfolio, features)
        _require_legal_example(portfolio)
        return self.model_copy(update={"features": features, "out_of_time": _dated(self.out_of_time, portfolio)})

    @cached_property
    def declared(self) -> Portfolio:
        """The portfolio; SettingsError if it is wrong."""
        return Portfolio.load(self.portfolio)

    @classmethod
    def load(cls, path: Path, portfolio: Path | None = None, *, draft: bool = False) -> Self:
        """Return the settings in the YAML file at `path`, with what the portfolio lays over them.

        `portfolio` takes the place of the one that the file names. SettingsError if either cannot be read or is wrong,
        or if the portfolio is a `draft` with open questions where none is expected.
        """
        document = read_document(path)
        if not isinstance(document, dict):
            return cls.checked(document, path)
        named = document.get("portfolio")
        if portfolio is None and isinstance(named, str):
            portfolio = path.parent / named
        if portfolio is None:
            return cls.checked(document, path)
        declared = Portfolio.load(portfolio)
        file = portfolio / FILE_NAME if portfolio.is_dir() else portfolio
        if not draft:
            refuse_open_questions(file)
        document |= {"portfolio": str(portfolio.absolute())}
        if document.get("whole") is True:
            return cls.checked(document, path)
        laid = _laid_over(document, declared.declared.training)
        # What is wrong only with the portfolio's part on top is the portfolio's fault.
        ours = laid != document and not cls._fits(laid, path) and cls._fits(document, path)
        return cls.checked(laid, Path(f"{file}: training") if ours else path)

    def tracked_at(self, uri: str | None) -> Self:
        """Return these settings with another address of MLflow, if one is given."""
        return self.model_copy(update={"tracking": self.tracking.model_copy(update={"uri": uri})}) if uri else self

    @classmethod
    def _fits(cls, document: Mapping[str, Any], path: Path) -> bool:
        try:
            cls.checked(document, path)
        except SettingsError:
            return False
        return True

    def left_out_lines(self) -> Iterator[str]:
        """Say which columns and features the model may not read, and because of which protected attribute."""
        found = self.declared.left_out(self.features.sets_of(self.declared), self.features.without_of(self.declared))
        for attribute, names in found.items():
            if names:
                yield f"left out of the model because of {attribute}: {', '.join(names)}"
        if self.features.left_out:
            yield f"left out of the model by features.left_out: {', '.join(self.features.left_out)}"
        if self.model.fairness.stated:
            yield f"read while the trees are fitted, and by no decision: {', '.join(self.model.fairness.stated)}"

    def recorded(self) -> dict[str, Any]:
        """Return the settings for a run and a model, JSON-ready; addresses have no user and no password."""
        # Every copy of the artefact holds them, and everybody who may read the experiment in MLflow.
        values = self.model_dump(mode="json")
        values["portfolio"] = self.declared.name
        values["tracking"]["uri"] = without_credentials(self.tracking.uri)
        values["tuning"]["storage"] = without_credentials(self.tuning.storage)
        # When a model is trained says nothing of what it is.
        del values["retraining"]
        return values


def _resolved(features: FeatureSettings, portfolio: Portfolio) -> FeatureSettings:
    """The settings with the names that `all` stands for."""
    return features.model_copy(update={"sets": features.sets_of(portfolio), "without": features.without_of(portfolio)})


def _dated(settings: OutOfTimeSettings | None, portfolio: Portfolio) -> OutOfTimeSettings | None:
    """The settings with the portfolio's own day where they name none; ValueError if it has none either."""
    if settings is None or settings.column is not None:
        return settings
    if portfolio.declared.decided_on is None:
        raise ValueError(f"out_of_time.column: must name a date, since {portfolio.name} has no decided_on")
    return settings.model_copy(update={"column": portfolio.declared.decided_on})


def _require_stated(attributes: Collection[str], portfolio: Portfolio, place: str) -> None:
    """ValueError if no column of the portfolio states one of the attributes."""
    unstated = sorted(set(attributes) - set(portfolio.schema.attributes))
    if unstated:
        raise ValueError(f"{place}: no column states: {', '.join(unstated)}")


def _require_wording(portfolio: Portfolio, features: FeatureSettings) -> None:
    """ValueError if the portfolio declares reasons, and a feature that a model may get belongs to none."""
    if portfolio.reasons is None:
        return
    chosen = features.select(portfolio)
    unworded = portfolio.reasons.unworded(chosen, portfolio.schema.protected(portfolio.schema.attributes))
    if unworded:
        raise ValueError(
            f"reasons of the portfolio {portfolio.name}: no group, so no reviewed wording, has {', '.join(unworded)}"
        )


def _require_legal_example(portfolio: Portfolio) -> None:
    """ValueError if the declared example is no application: each worker of the service scores it at its start."""
    if not portfolio.declared.example:
        return
    try:
        Applications(portfolio).model.model_validate_json(json.dumps(portfolio.declared.example))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        faults.sort(key=lambda fault: fault["type"] == "missing")  # an unknown name explains one that is missing
        said = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'columns'}: {fault['msg']}" for fault in faults)
        raise ValueError(f"example of the portfolio {portfolio.name}: {said}") from None


def _laid_over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `below`, with those of `above` in their place; mappings are merged name by name."""
    merged = dict(below)
    for name, value in above.items():
        held = merged.get(name)
        merged[name] = _laid_over(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged
