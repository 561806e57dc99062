"""Define the settings of the service: configs/serving.yaml as frozen models."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from decision_log.format import APPLICATION_ONLY, CHAMPION
from jobs.settings import Settings

DECIDE_PATH = "/decide"
"""The path of the decision page."""


class AccessSettings(Settings):
    """The open routes, and the rate of a key. CREDIT_SCORING_KEYS names the file of keys."""

    open: tuple[Annotated[str, Field(pattern=r"^/\S*$")], ...]
    """Paths that need no key."""
    requests_per_second: float = Field(gt=0)
    """Of one key in each worker, unless the key has a rate of its own."""
    burst_seconds: float = Field(ge=1)
    """Seconds of the rate that may come at once."""
    reload_seconds: float = Field(gt=0)
    """Seconds between two looks at the file: a revoked key is refused after this time at the latest."""


class Limits(Settings):
    """The size of one request, and the number of requests at once, in each worker."""

    body_bytes: int = Field(ge=1024)
    """Largest body of a batch."""
    application_bytes: int = Field(ge=1024)
    """Largest body of a single application or feature vector, and largest application of a batch."""
    batch_applications: int = Field(ge=1)
    """Applications of a batch in JSON."""
    columnar_rows: int = Field(ge=1)
    """Applications of a batch as Arrow, Parquet or CSV."""
    timeout_seconds: float = Field(gt=0)
    in_flight: int = Field(ge=1)
    """Single requests on one route that are whole and wait for their answer."""
    batches_in_flight: int = Field(ge=1)
    buffered_bytes: int = Field(ge=1024)
    """Room for all bodies that are still coming."""
    retry_after_seconds: int = Field(ge=1)


class Connections(Settings):
    """The size and the time that one connection may take before and after an answer."""

    hosts: tuple[str, ...]
    """Host names besides loopback that a service without keys answers to."""
    head_bytes: int = Field(ge=1024)
    """Largest request line and header fields together."""
    head_fields: int = Field(ge=1)
    head_seconds: float = Field(gt=0)
    unread_seconds: float = Field(gt=0)
    """Time for a caller to read an answer."""
    unread_bytes: int = Field(ge=1024)
    """Room for answers that callers have not read, in each worker."""


class Placement(StrEnum):
    """The process in which the model runs."""

    EMBEDDED = "embedded"
    """In every API worker: for models that take microseconds."""
    SERVICE = "service"
    """In a BentoML service of its own, which the API workers share: for models that take milliseconds."""


class BoundaryPosition(StrEnum):
    """The place of the boundary among BentoML's middlewares."""

    OUTERMOST = "outermost"
    """A scoring request meets none of them."""
    INNERMOST = "innermost"
    """A scoring request is logged, traced and timed by them first, where they are switched on."""


class RunnerSettings(Settings):
    """The batching of concurrent single requests, and the place of the model."""

    placement: Placement
    max_batch_rows: int = Field(ge=1)
    batches_in_flight: int = Field(ge=1)
    """Batches of one API worker that the model's own service may hold at once."""
    threads: int = Field(ge=1)
    """Threads of the model in its own service."""
    service: dict[str, Any]
    """BentoML's configuration of the model's own service."""


class IdempotencySettings(Settings):
    """The answers that are kept for requests with an Idempotency-Key."""

    hours: float = Field(gt=0)
    """How long an answer is kept."""


class ReasonsSettings(Settings):
    """What is said of the reasons of a decision."""

    in_declines: bool
    """Whether /predict, /predict/batch and /predict/features give the reasons of a decline; /explain always does."""
    language: str = Field(pattern=r"^[a-z]{2}$")
    """Of the wording; one of those in which the portfolio declares it."""


class PageSettings(Settings):
    """The decision page, for people who decide on single applications."""

    enabled: bool
    """Whether GET /decide serves it. It needs no key itself, since it holds no data; what it asks for does."""


class ChangesSettings(Settings):
    """The bounds of a search for the changes that reach approval."""

    most_evaluations: int = Field(ge=1)
    """Changed applications that the model is asked about."""
    milliseconds: float = Field(gt=0)
    """A longer search is cut short, and says so."""


class Metrics(Settings):
    """The metrics of requests."""

    duration_buckets: tuple[float, ...] = Field(min_length=1)
    """Upper bounds, in seconds."""


class HashEnd(StrEnum):
    """The end of the clients' hashes from which a share is taken."""

    LOW = "low"
    HIGH = "high"


class VariantSettings(Settings):
    """A challenger that the service loads beside the champion."""

    name: str = Field(default="challenger", pattern=r"^[a-z][a-z0-9_-]{0,30}$")
    """Its name in records and metrics."""
    model: str = Field(min_length=1)
    """In the BentoML model store: name, name:version or name:alias."""
    share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the clients that it decides for; with 0 it is in shadow and decides for nobody."""
    end: HashEnd = HashEnd.LOW
    """Where its share begins: two challengers with a share need an end each, and keep it whatever the other does."""


class WithoutHistory(StrEnum):
    """What happens to an application whose client's history is not known."""

    SCORE = "score"
    """It is decided on without, and answer and record say so."""
    REFUSE = "refuse"
    """It is refused."""
    APPLICATION_ONLY = "application_only"
    """A second model decides, which reads the application alone."""


class HistorySettings(Settings):
    """The histories of clients, where the model reads them. The variable FEATURE_STORE names the feature store."""

    ttl_days: float = Field(gt=0)
    """An entry of the feature store that is older is not used."""
    milliseconds: float = Field(gt=0)
    """Time that the feature store has to answer."""
    without: WithoutHistory
    model: str | None = Field(default=None, min_length=1)
    """The second model, in the BentoML model store: name, name:version or name:alias."""

    @model_validator(mode="after")
    def _names_the_model_that_it_needs(self) -> Self:
        needed = WithoutHistory.APPLICATION_ONLY
        if (self.model is not None) is not (self.without is needed):
            raise ValueError(f"without: {needed} needs a model, and nothing else reads it")
        return self


class GuardSettings(Settings):
    """How many failures of a challenger, of its last requests in a worker, return its clients to the champion."""

    failures: int = Field(ge=1)
    of: int = Field(ge=1)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.failures > self.of:
            raise ValueError("failures must not be above of")
        return self


class SplitSettings(Settings):
    """How clients are split among the variants that decide."""

    salt: str = Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")
    """Hashed with the client id: another salt draws the clients anew, as a new test must."""
    seconds: float = Field(gt=0)
    """Time that a challenger has to decide on a request; then the champion does."""
    guard: GuardSettings


class ServingSettings(Settings):
    """All of configs/serving.yaml. `bentoml` is BentoML's own service configuration, which BentoML checks."""

    model: str = Field(min_length=1)
    variants: tuple[VariantSettings, ...]
    split: SplitSettings
    access: AccessSettings
    limits: Limits
    connections: Connections
    runner: RunnerSettings
    idempotency: IdempotencySettings
    reasons: ReasonsSettings
    histories: HistorySettings
    page: PageSettings
    changes: ChangesSettings
    metrics: Metrics
    boundary: BoundaryPosition
    bentoml: dict[str, Any]

    @property
    def admission(self) -> AccessSettings:
        """The access settings, with the decision page among the open routes if it is served."""
        opened = (*self.access.open, DECIDE_PATH) if self.page.enabled else self.access.open
        return self.access.model_copy(update={"open": opened})

    @field_validator("variants")
    @classmethod
    def _can_share(cls, variants: tuple[VariantSettings, ...]) -> tuple[VariantSettings, ...]:
        names = [CHAMPION, APPLICATION_ONLY, *(variant.name for variant in variants)]
        if len(set(names)) < len(names):
            raise ValueError(f"each needs a name of its own, other than {CHAMPION} and {APPLICATION_ONLY}")
        sharing = [variant for variant in variants if variant.share]
        # One share grows from each end: among more, raising one would move clients between the others.
        if len({variant.end for variant in sharing}) < len(sharing):
            raise ValueError("two may have a share, one with the end low and one with the end high")
        if sum(variant.share for variant in sharing) >= 1:
            raise ValueError(f"some share must be left to the {CHAMPION}")
        return variants

    @model_validator(mode="after")
    def _leaves_time_to_the_champion(self) -> Self:
        if any(variant.share for variant in self.variants) and self.split.seconds >= self.limits.timeout_seconds:
            raise ValueError(f"split.seconds must be below limits.timeout_seconds, or the {CHAMPION} has no time left")
        return self

    @field_validator("bentoml")
    @classmethod
    def _leaves_metrics_to_the_boundary(cls, bentoml: dict[str, Any]) -> dict[str, Any]:
        # BentoML 1.4.39 labels its request metrics with the raw path, and would count what the boundary has counted.
        if bentoml.get("metrics", {}).get("enabled", True):
            raise ValueError("metrics.enabled must be false: the boundary writes BentoML's request metrics")
        return bentoml

    @field_validator("bentoml")
    @classmethod
    def _leaves_the_address_to_the_command(cls, bentoml: dict[str, Any]) -> dict[str, Any]:
        # `bentoml serve` 1.4.39 listens where its own options say, whatever a service declares here.
        for name, options in (("http", "--host and --port"), ("ssl", "--ssl-certfile and --ssl-keyfile")):
            if name in bentoml:
                raise ValueError(f"{name} is not read by the command that serves: give it {options}")
        return bentoml
