"""The settings of the comparison: configs/benchmarks.yaml as frozen models."""

from __future__ import annotations

from pydantic import Field

from jobs.settings import Settings


class OpenLoopSettings(Settings):
    """How requests arrive that wait for no answer."""

    saturation: float = Field(gt=0, lt=1)
    connections: int = Field(ge=1)


class Timeouts(Settings):
    """Seconds after which a server is given up."""

    start: float = Field(gt=0)
    stop: float = Field(gt=0)
    answer: float = Field(gt=0)
    window: float = Field(gt=0)
    """For one window of load."""
    quiet: float = Field(gt=0)
    """For what is left of one window of load before the next."""


class SoakSettings(Settings):
    """A run long enough for memory to grow in, at the open loop's share of saturation."""

    windows: int = Field(ge=1)
    window_seconds: float = Field(gt=0)
    saturation_connections: int = Field(ge=1)
    """Of the closed loop that finds saturation."""


class BookSettings(Settings):
    """A whole book of applications, scored in one job."""

    rows: tuple[int, ...] = Field(min_length=1)
    """Of the books, each one job."""
    file_rows: int = Field(ge=1)
    matrix_rows: int = Field(ge=1)
    """Of the ready matrix, taken again and again."""
    booster_rows: int = Field(ge=1)
    """That LightGBM predicts on it."""
    pandas_rows: int = Field(ge=1)
    """Of the smaller book that the pipeline of pandas and scikit-learn scores."""
    explained_rows: int = Field(ge=1)
    """Of the still smaller book that it scores with reasons, by LightGBM's contributions."""
    cores: int = Field(ge=1)


class Bar(Settings):
    """What a figure may be at most, and what it should become."""

    bar: float = Field(ge=0)
    aim: float = Field(ge=0)


class Bars(Settings):
    """The bars of the service; ratios are to another peer of the same run."""

    cpu_of_fastapi: Bar
    cpu_of_floor: Bar
    cpu_of_original: Bar
    cpu_of_pyfunc: Bar
    cpu_in_batch: Bar
    cpu_in_table_us: Bar
    model_load_ms: Bar
    ready_of_empty: Bar
    memory_of_empty: Bar
    open_loop_p99_ms: Bar
    soak_errors: Bar
    soak_growth: Bar
    soak_p99: Bar
    book_of_booster: Bar
    book_of_pandas: Bar
    book_of_plain_pandas: Bar
    book_memory_mb: Bar
    book_growth: Bar


class BenchmarkSettings(Settings):
    """All of configs/benchmarks.yaml."""

    seed: int
    clients: int = Field(ge=1000)
    applications: int = Field(ge=1)
    threads: int = Field(ge=1)
    rounds: int = Field(ge=1)
    seconds: float = Field(gt=0)
    warm_up_requests: int = Field(ge=1)
    connections: tuple[int, ...] = Field(min_length=1)
    batches: tuple[int, ...]
    tables: tuple[int, ...]
    open_loop: OpenLoopSettings
    littles_law: float = Field(gt=0)
    timeouts: Timeouts
    soak: SoakSettings
    book: BookSettings
    bars: Bars
