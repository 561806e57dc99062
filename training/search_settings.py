"""Settings of trees, experiments and the search, and addresses of databases that may hold a password."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import AfterValidator, Field, model_validator

from jobs.settings import Settings

# By hand rather than by urlsplit, which ends the host at the first ? or #, also at one inside a password.
_PARAMETERS = re.compile(r"[?#;&]")


def without_credentials(address: str) -> str:
    """Return the address without user and password; only its scheme if a password may reach beyond a ? or #.

    >>> without_credentials("postgresql://user:secret@host/trials")
    'postgresql://host/trials'
    >>> without_credentials("postgresql://host/trials?password=secret")
    'postgresql://host/trials'
    >>> without_credentials("postgresql://user:sec?ret@host/trials")
    'postgresql://...'
    """
    scheme, separator, rest = address.partition("://")
    if scheme.startswith("sqlite") or not separator:
        return address.partition("?")[0]
    place = _PARAMETERS.split(rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:
        return f"{scheme}://..."
    return f"{scheme}://{place.rpartition('@')[2]}"


def secrets_of(address: str) -> list[str]:
    """List the passwords, tokens and parameter values of an address, as written and as decoded.

    >>> secrets_of("postgresql://bob:a@b@host/trials?token=xyz")
    ['a@b', 'xyz']
    """
    scheme, _, rest = address.partition("://")
    if scheme.startswith("sqlite"):
        return []
    place, *parameters = _PARAMETERS.split(rest)
    if "@" in "".join(parameters):
        found = re.split(r"[:@/?#;&=]", rest)
    else:
        user, _, _ = place.rpartition("@")
        found = [user.partition(":")[2] or user, *(one.rpartition("=")[2] for one in parameters)]
    # SQLAlchemy decodes percent codes, so an error message may quote either form.
    return list(dict.fromkeys(form for one in found if one for form in (one, unquote(one))))


def address_fault(address: str) -> str | None:
    """Say what is wrong with an address as it is written; None if nothing is.

    >>> address_fault("postgres://host/mlflow")
    'write postgresql:// for PostgreSQL'
    """
    # SQLAlchemy 1.4 dropped the name postgres, which many hosting services still print.
    return "write postgresql:// for PostgreSQL" if address.startswith("postgres://") else None


DRAWING_ROWS = {"subsample_freq": 1}
"""The parameters that `subsample` needs to have an effect: rows are drawn for every tree."""


class TreeParameters(Settings):
    """How single trees are grown, by the names of LightGBM's scikit-learn interface.

    What is null follows the data, see `fitting.usual_parameters`, or is LightGBM's own default where that has none. The
    seed, the objective and the number of trees are not set here.
    Source: https://lightgbm.readthedocs.io/en/stable/Parameters.html
    """

    learning_rate: float | None = Field(default=None, gt=0, le=1)
    num_leaves: int | None = Field(default=None, ge=2, le=131_072)
    max_depth: int | None = Field(default=None, ge=-1, le=1000)
    """-1 is no limit."""
    min_child_samples: int | None = Field(default=None, ge=1)
    min_child_weight: float | None = Field(default=None, ge=0)
    min_split_gain: float | None = Field(default=None, ge=0)
    subsample: float | None = Field(default=None, gt=0, le=1)
    subsample_freq: int | None = Field(default=None, ge=0)
    """Trees between two draws of rows; 0 draws none, whatever `subsample` says."""
    colsample_bytree: float | None = Field(default=None, gt=0, le=1)
    colsample_bynode: float | None = Field(default=None, gt=0, le=1)
    reg_alpha: float | None = Field(default=None, ge=0)
    reg_lambda: float | None = Field(default=None, ge=0)
    path_smooth: float | None = Field(default=None, ge=0)
    extra_trees: bool | None = None
    max_bin: int | None = Field(default=None, ge=2, le=65_535)
    min_data_per_group: int | None = Field(default=None, ge=1)
    cat_smooth: float | None = Field(default=None, ge=0)
    cat_l2: float | None = Field(default=None, ge=0)
    max_cat_threshold: int | None = Field(default=None, ge=1)
    max_cat_to_onehot: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _rows_are_drawn(self) -> TreeParameters:
        # LightGBM's bagging_freq is 0 by default, and LightGBM then ignores bagging_fraction without a word.
        if self.subsample is not None and self.subsample < 1 and not self.subsample_freq:
            raise ValueError("subsample below 1 draws no rows unless subsample_freq is at least 1")
        return self

    def stated(self) -> dict[str, Any]:
        """Return the parameters that are set."""
        return self.model_dump(exclude_none=True)

    def over(self, usual: TreeParameters) -> TreeParameters:
        """Return these parameters, with the usual ones where these are null."""
        return TreeParameters(**usual.stated() | self.stated())


class Family(StrEnum):
    """A kind of model."""

    DUMMY = "dummy"
    """The default rate for everybody."""
    LOGISTIC_REGRESSION = "logistic_regression"
    RANDOM_FOREST = "random_forest"
    NEURAL_NETWORK = "neural_network"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    """LightGBM with the parameters of the part `model` of the settings."""


class Sampling(StrEnum):
    """A way of sampling changes the rare defaults' share, inside the training fold only."""

    NONE = "none"
    BALANCED_WEIGHTS = "balanced_weights"
    """Both outcomes weigh the same in total."""
    SMOTE = "smote"
    """Defaults are added between neighbouring defaults (N. Chawla et al., JAIR 16, 2002)."""
    UNDERSAMPLING = "undersampling"
    """Good rows are left out at random."""
    HYBRID = "hybrid"
    """SMOTE, then undersampling."""


class LogisticSettings(Settings):
    """L2-penalized logistic regression."""

    inverse_penalty: float = Field(gt=0)
    max_iterations: int = Field(ge=1, le=100_000)


class ForestSettings(Settings):
    """Random forest."""

    trees: int = Field(ge=1, le=100_000)
    min_samples_leaf: int = Field(ge=1)
    max_features: float = Field(gt=0, le=1)
    """Share of the features that a split looks at."""


class NetworkSettings(Settings):
    """Fully connected network with rectified units, fitted by Adam."""

    hidden: tuple[int, ...] = Field(min_length=1)
    """Units of each hidden layer."""
    penalty: float = Field(ge=0)
    learning_rate: float = Field(gt=0, le=1)
    batch_rows: int = Field(ge=1)
    epochs: int = Field(ge=1, le=10_000)


class XGBoostSettings(Settings):
    """Gradient-boosted trees of XGBoost; their number is judged on a part of the training fold, as LightGBM's is."""

    learning_rate: float = Field(gt=0, le=1)
    max_depth: int = Field(ge=1, le=1000)
    min_child_weight: float = Field(ge=0)
    subsample: float = Field(gt=0, le=1)
    colsample_bytree: float = Field(gt=0, le=1)
    reg_alpha: float = Field(ge=0)
    reg_lambda: float = Field(ge=0)


class ModelSelectionSettings(Settings):
    """The experiment compares model families, and ensembles of some of them, on the same folds."""

    experiment: str = Field(min_length=1)
    families: tuple[Family, ...] = Field(min_length=2)
    ensemble: tuple[Family, ...] = Field(min_length=2)
    """Families that are blended and stacked; named beforehand, so that no judged row chooses them."""
    logistic_regression: LogisticSettings
    random_forest: ForestSettings
    neural_network: NetworkSettings
    xgboost: XGBoostSettings

    @model_validator(mode="after")
    def _members_are_fitted(self) -> Self:
        if len(set(self.families)) != len(self.families) or not set(self.ensemble) < set(self.families):
            raise ValueError("families must differ and hold those of the ensemble, and more")
        # A constant has no log-odds to blend, and a stacking regression cannot tell it from its own intercept.
        if Family.DUMMY in self.ensemble:
            raise ValueError("the ensemble cannot hold the dummy, which ranks nobody")
        return self


class SamplingSettings(Settings):
    """The ratio of defaults to good rows after each way of sampling."""

    neighbours: int = Field(ge=1, le=10)
    smote_ratio: float = Field(gt=0, le=1)
    """Defaults for each good row after SMOTE alone."""
    hybrid_ratio: float = Field(gt=0, le=1)
    """Defaults for each good row after the SMOTE of the hybrid."""
    undersampling_ratio: float = Field(gt=0, le=1)
    """Defaults for each good row after undersampling."""


class FeatureEngineeringSettings(Settings):
    """The experiment fits each set of features with each way of sampling."""

    experiment: str = Field(min_length=1)
    feature_sets: dict[str, tuple[str, ...] | Literal["all"]] = Field(min_length=1)
    samplings: tuple[Sampling, ...] = Field(min_length=1)
    sampling: SamplingSettings
    learning_rate: float = Field(gt=0, le=1)
    """It replaces the model's learning rate, so that the whole grid is fitted in minutes."""
    trees: int = Field(ge=1, le=100_000)


class OptionSettings(Settings):
    """The experiment measures what protected attributes and directions of features cost in AUC."""

    experiment: str = Field(min_length=1)
    profiles: dict[str, tuple[str, ...] | Literal["all"]] = Field(min_length=1)
    """Protected attributes that no feature may read."""
    monotone: dict[str, Literal[-1, 1]]
    """Features with which the PD may only fall (-1) or rise (1), in one further candidate; none without any."""


class ExperimentSettings(Settings):
    """The settings of all experiments."""

    model_selection: ModelSelectionSettings
    feature_engineering: FeatureEngineeringSettings
    options: OptionSettings


class Objective(StrEnum):
    """The measure that the search optimizes, on the judged rows of each fold at the policy's cut-off."""

    AUC = "auc"
    AVERAGE_PRECISION = "average_precision"
    COST = "cost_per_applicant"
    F_BETA = "f_beta"
    """F-beta with the beta of the part `evaluation`."""

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """`minimize` for the cost, else `maximize`."""
        return "minimize" if self is Objective.COST else "maximize"


class _Range(Settings):
    log: bool = False
    """Whether orders of magnitude are searched evenly."""


class RealRange(_Range):
    """Real numbers from `low` to `high`."""

    low: float
    high: float

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError("low must be below high, and above 0 for a logarithmic range")
        return self


class WholeRange(_Range):
    """Whole numbers from `low` to `high`."""

    low: int
    high: int

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError("low must be below high, and above 0 for a logarithmic range")
        return self


class SearchSpace(Settings):
    """Ranges of LightGBM's parameters; the others keep the value of the part `model`."""

    learning_rate: RealRange
    num_leaves: WholeRange
    max_depth: WholeRange
    min_child_samples: WholeRange
    subsample: RealRange
    colsample_bytree: RealRange
    reg_alpha: RealRange
    reg_lambda: RealRange

    @model_validator(mode="after")
    def _ends_are_legal(self) -> Self:
        # Checked before the search, which would otherwise fail at the first trial that draws an illegal value.
        for end in ("low", "high"):
            TreeParameters.model_validate({name: getattr(searched, end) for name, searched in self} | DRAWING_ROWS)
        return self


class Pruning(Settings):
    """Pruning ends a trial whose mean over the folds so far is worse than the median of earlier trials."""

    startup_trials: int = Field(ge=1)
    """The first trials, which are never ended early."""
    warmup_folds: int = Field(ge=0)
    """Further folds that every trial runs before it may end early."""


class NestedSettings(Settings):
    """Nested search: the search is repeated within outer folds and its winner judged on rows that no trial saw."""

    # The folds that choose a winner flatter it (G. Cawley and N. Talbot, JMLR 11, 2010).

    folds: int = Field(ge=2, le=20)
    trials: int = Field(ge=1)


def _known_address(address: str) -> str:
    if fault := address_fault(address):
        raise ValueError(fault)
    return address


class TuningSettings(Settings):
    """The search for LightGBM's parameters."""

    experiment: str = Field(min_length=1)
    study: str = Field(min_length=1)
    storage: Annotated[str, AfterValidator(_known_address)] = Field(min_length=1)
    """Address of the database that keeps the trials; several machines may share one."""
    # Whether a process of another machine still lives cannot be asked, so silence decides.
    abandoned_after_seconds: int = Field(ge=1)
    """After so long without a finished fold, a trial of another machine is taken over."""
    objective: Objective
    trials: int = Field(ge=1, le=100_000)
    folds: int = Field(ge=2, le=20)
    startup_trials: int = Field(ge=1)
    """Trials drawn at random before the sampler learns from them."""
    pruning: Pruning
    nested: NestedSettings | None
    space: SearchSpace


class LeverSettings(Settings):
    """What the search for alternatives may change, beside cut-offs and the features that are left out."""

    seeds: int = Field(default=5, ge=1, le=1000)
    """Seeds of the trees that are tried."""
    proxies: int = Field(default=10, ge=0, le=100)
    """Columns that may be left out: those that carry most of a protected attribute into the score."""
    monotone: int = Field(default=10, ge=0, le=100)
    """Features of the largest gain that may be held to the direction that they have in the data."""
    parameters: bool = True
    """Whether parameters of the trees are searched, in the ranges of the part `tuning`; the learning rate stays."""
    reweighing: bool = True
    """Whether rows may be weighed by group and outcome; such a fit reads the attribute."""
    # To optimize a model against a group is more debated than to weigh rows, so a lender must turn it on.
    penalty: bool = False
    """Whether log-odds that differ by group may be penalized; such a fit reads the attribute."""


class AlternativesSettings(Settings):
    """The search for less discriminatory alternatives to the model of the settings."""

    trials: int = Field(default=1000, ge=1, le=100_000)
    """The most trials; the command also has a limit of time."""
    held_out: float = Field(default=0.4, ge=0.1, le=0.9)
    """Share of the applications that confirm and never choose."""
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    """It replaces the model's in the trials, so that hundreds fit into the time; points have the model's own."""
    ratios: tuple[float, ...] = Field(default=(0.8, 0.9), min_length=1)
    """Impact ratios whose price is stated."""
    points: int = Field(default=30, ge=1, le=100)
    """The most points that are confirmed and written."""
    resamples: int = Field(default=500, ge=20, le=100_000)
    """Bootstrap samples of the held-out applications."""
    processes: int | None = Field(default=None, ge=1, le=1024)
    """Processes that fit models, with one thread each; null is one for each processor. It changes no figure."""
    levers: LeverSettings = LeverSettings()
