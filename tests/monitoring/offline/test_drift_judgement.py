"""How often the alarm goes off without drift, and whether it does with each kind of drift, naming the column first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmarks.simulation import ReferencePopulation, simulate
from decision_log.closed_segments import write_segment
from decision_log.reader import DecisionLogReader
from features.schema import Calendar
from features.transformer import Columns
from monitoring.drift import WHOLE, DriftLevel, Judgement, judge, judgement_json, judgement_lines, whole_periods
from monitoring.errors import WindowError
from monitoring.settings import MonitoringSettings
from monitoring.sources import window_of_file, window_of_log
from monitoring.windows import CompleteWindow, Findings
from scoring.drift_reference import Window
from scoring.scorer import Scorer
from tests.home_credit import APPLICATION
from tests.skipped import HOME_CREDIT, needs_home_credit

Drift = Callable[[Columns], Columns]


@pytest.fixture(scope="module")
def drawn(scorer: Scorer, population: Columns) -> ReferencePopulation:
    matrix = scorer.transformer.transform(population)
    return ReferencePopulation(scorer.artefact.reference, matrix, scorer.score_matrix(matrix).probability)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [300, 1_000, 10_000])
def test_false_alarms_are_no_more_than_stated(
    scorer: Scorer, population: Columns, rules: MonitoringSettings, rows: int
) -> None:
    """Against other rows of the same population.

    The out-of-fold PDs of the tests' model, of 3,000 applications, are not distributed as its PDs of new ones are;
    `python -m benchmarks false-alarms` measures the rate against an artefact's own reference.
    """
    matrix = scorer.transformer.transform(population)
    probability = scorer.score_matrix(matrix).probability
    base = Window.of(scorer.artefact.reference, matrix[:10_000], probability[:10_000])
    others = ReferencePopulation(scorer.artefact.reference, matrix[10_000:], probability[10_000:])
    random = np.random.default_rng(rows)
    found = simulate(others, rules.drift, rows=rows, windows=1_000, random=random, base=base)
    print(f"{rows} rows: {found.alarms} false alarms in {found.windows} windows")  # noqa: T201 - shown by pytest -s
    assert found.rate <= rules.drift.false_alarm_rate


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Drift:
    def drift(columns: Columns) -> Columns:
        numbers = columns.numbers.copy()
        numbers[:, APPLICATION.position[name]] = change(numbers[:, APPLICATION.position[name]])
        return replace(columns, numbers=numbers)

    return drift


def shifted(name: str) -> Drift:
    return changed(name, lambda values: values + 0.3 * np.nanstd(values))


def missing(name: str) -> Drift:
    return changed(name, lambda values: np.where(np.arange(len(values)) % 10 == 0, np.nan, values))


def relabelled(name: str) -> Drift:
    def drift(columns: Columns) -> Columns:
        levels = columns.levels.copy()
        levels[::20, APPLICATION.position[name]] = "Something new"
        return replace(columns, levels=levels)

    return drift


def swapped(first: str, second: str) -> Drift:
    def drift(columns: Columns) -> Columns:
        numbers, places = columns.numbers.copy(), [APPLICATION.position[first], APPLICATION.position[second]]
        numbers[:, places] = numbers[:, places[::-1]]
        return replace(columns, numbers=numbers)

    return drift


def judged(scorer: Scorer, columns: Columns, rules: MonitoringSettings) -> Judgement:
    matrix = scorer.transformer.transform(columns)
    window = Window.of(scorer.artefact.reference, matrix, scorer.score_matrix(matrix).probability)
    return judge(scorer.artefact.reference, window, rules.drift)


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        (shifted("EXT_SOURCE_2"), {"EXT_SOURCE_2"}),
        (shifted("EXT_SOURCE_3"), {"EXT_SOURCE_3"}),
        (missing("AMT_ANNUITY"), {"AMT_ANNUITY"}),
        (missing("AMT_GOODS_PRICE"), {"AMT_GOODS_PRICE"}),
        (relabelled("NAME_INCOME_TYPE"), {"NAME_INCOME_TYPE"}),
        (relabelled("ORGANIZATION_TYPE"), {"ORGANIZATION_TYPE"}),
        (changed("AMT_CREDIT", lambda values: values * 1_000), {"AMT_CREDIT"}),
        (changed("AMT_INCOME_TOTAL", lambda values: values / 1_000), {"AMT_INCOME_TOTAL"}),
        (swapped("AMT_CREDIT", "AMT_ANNUITY"), {"AMT_CREDIT", "AMT_ANNUITY"}),
        (swapped("EXT_SOURCE_2", "EXT_SOURCE_3"), {"EXT_SOURCE_2", "EXT_SOURCE_3"}),
    ],
)
def test_every_planted_drift_is_found_in_a_thousand_rows_and_its_column_named_first(
    scorer: Scorer, population: Columns, rules: MonitoringSettings, drift: Drift, expected: set[str]
) -> None:
    random = np.random.default_rng(5)
    for _ in range(10):
        rows = random.integers(len(population), size=1_000)
        found = judged(scorer, drift(population.take(rows)), rules)
        assert found.alarm
        assert found.drifted_columns[0].name in expected


@needs_home_credit
def test_the_real_test_file_has_drifted_from_the_real_training_file(scorer: Scorer, rules: MonitoringSettings) -> None:
    train, test = (window_of_file(HOME_CREDIT / f"application_{name}.csv", scorer).window for name in ("train", "test"))
    found = judge(scorer.artefact.reference, test, rules.drift, base=train)
    assert (found.alarm, found.rows, found.reference_rows) == (True, 5_000, 35_309)
    assert "credit_to_annuity" in {shift.name for shift in found.drifted if shift.level is DriftLevel.MAJOR}


def test_a_window_that_is_too_small_is_not_judged(
    scorer: Scorer, population: Columns, rules: MonitoringSettings
) -> None:
    with pytest.raises(WindowError, match=r"^the window has 299 rows, fewer than the 300 that can be judged$"):
        judged(scorer, population.take(slice(0, 299)), rules)


def test_the_counts_of_two_windows_add_up(scorer: Scorer, population: Columns) -> None:
    reference, matrix = scorer.artefact.reference, scorer.transformer.transform(population.take(slice(0, 500)))
    probability = scorer.score_matrix(matrix).probability
    parts = [Window.of(reference, matrix[rows], probability[rows]) for rows in (slice(0, 123), slice(123, 500))]
    both, whole = parts[0] + parts[1], Window.of(reference, matrix, probability)
    assert (both.features.tolist(), both.probability.tolist()) == (whole.features.tolist(), whole.probability.tolist())


def test_a_drawn_window_counts_what_the_reference_counts(
    scorer: Scorer, population: Columns, drawn: ReferencePopulation
) -> None:
    rows = np.arange(700)
    matrix = scorer.transformer.transform(population.take(rows))
    counted = Window.of(scorer.artefact.reference, matrix, scorer.score_matrix(matrix).probability)
    window = drawn.window(rows)
    assert (window.features.tolist(), window.probability.tolist()) == (
        counted.features.tolist(),
        counted.probability.tolist(),
    )


def test_what_a_category_has_not_is_null_in_json(
    scorer: Scorer, population: Columns, rules: MonitoringSettings
) -> None:
    plain = judgement_json(judged(scorer, population.take(slice(0, 400)), rules))
    features = {feature["name"]: feature for feature in plain["features"]}
    assert plain["rows"] == 400
    assert features["NAME_INCOME_TYPE"]["ks"] is None
    assert features["EXT_SOURCE_2"]["level"] == "stable"


WEEKDAY, HOUR = "WEEKDAY_APPR_PROCESS_START", "HOUR_APPR_PROCESS_START"
HEALTHY = [
    (WEEKDAY, lambda days, _: days == "MONDAY"),
    (WEEKDAY, lambda days, _: (days == "SATURDAY") | (days == "SUNDAY")),
    (HOUR, lambda _, hours: hours < 10),
    (HOUR, lambda _, hours: (hours >= 9) & (hours < 17)),
    (WEEKDAY, lambda days, hours: (days == "FRIDAY") & (hours < 13)),
]


@pytest.mark.parametrize(("name", "chosen"), HEALTHY)
def test_a_part_of_a_day_or_week_is_no_drift_but_over_whole_weeks_it_is(
    scorer: Scorer, population: Columns, rules: MonitoringSettings, name: str, chosen: Callable[..., np.ndarray]
) -> None:
    matrix = scorer.transformer.transform(population)
    probability = scorer.score_matrix(matrix).probability
    reference = scorer.artefact.reference
    base = Window.of(reference, matrix, probability)
    days = population.levels[:, APPLICATION.position[WEEKDAY]]
    hours = population.numbers[:, APPLICATION.position[HOUR]]
    rows = np.flatnonzero(chosen(days, hours))[:1_000]
    window = Window.of(reference, matrix[rows], probability[rows])
    part = judge(reference, window, rules.drift, base=base)
    assert (part.reasons, part.drifted) == ((), ())
    assert {shift.name for shift in part.features if shift.partial} == {WEEKDAY, HOUR}
    assert "known to be covered: WEEKDAY_APPR_PROCESS_START, HOUR_APPR_PROCESS_START" in "\n".join(
        judgement_lines(part)
    )
    whole = judge(reference, window, rules.drift, base=base, whole=WHOLE)
    assert whole.alarm
    assert name in {shift.name for shift in whole.drifted}


@pytest.mark.parametrize("drift", [missing(HOUR), relabelled(WEEKDAY)])
def test_missing_hours_and_unknown_weekdays_are_drift_in_a_part_of_a_day_too(
    scorer: Scorer, population: Columns, rules: MonitoringSettings, drift: Drift
) -> None:
    found = judged(scorer, drift(population.take(slice(0, 1_000))), rules)
    assert {WEEKDAY, HOUR} & {shift.name for shift in found.drifted if shift.level is DriftLevel.MAJOR}


@pytest.mark.parametrize(
    ("hours", "whole"),
    [(1, ""), (23, ""), (23.6, "day"), (24, "day"), (36, ""), (160, ""), (168, "day week"), (396, ""), (720, "day"),
     (8_736, "day week")],
)  # fmt: skip
def test_whole_periods_of_a_time(hours: float, whole: str) -> None:
    assert whole_periods(timedelta(hours=hours)) == set(whole.split())


@pytest.mark.parametrize(("days", "whole"), [(0.5, set()), (3, {Calendar.DAY}), (17, {Calendar.DAY, Calendar.WEEK})])
def test_a_log_is_judged_by_the_whole_weeks_in_it(
    scorer: Scorer, log: Path, tmp_path: Path, days: float, whole: set[Calendar]
) -> None:
    """Decisions at equal distances; those before the last whole weeks are all of a Monday."""
    (segment, *_) = sorted((log / "closed").iterdir())
    table = parquet.read_table(segment)
    end, place = datetime(2026, 3, 1, tzinfo=UTC), table.schema.get_field_index("time")
    times = end - np.arange(table.num_rows)[::-1] * timedelta(days=days) / (table.num_rows - 1)
    table = table.set_column(place, table.schema.field(place), pa.array(list(times), table.schema.field(place).type))
    (tmp_path / "closed").mkdir()
    write_segment(table, tmp_path / "closed" / segment.name)
    found = window_of_log(DecisionLogReader(tmp_path), scorer.artefact.reference)
    assert (found.whole, found.window.rows) == (whole, table.num_rows)
    counts = scorer.artefact.reference.by_feature(found.window.features)
    rows = {name: int(counts[name].sum()) for name in (WEEKDAY, HOUR, "AMT_CREDIT")}
    weeks = sum(time > end - timedelta(weeks=2) for time in times) if days > 7 else table.num_rows
    hours = sum(time > end - timedelta(days=int(days)) for time in times) if days >= 1 else table.num_rows
    assert rows == {WEEKDAY: weeks, HOUR: hours, "AMT_CREDIT": table.num_rows}


@pytest.mark.parametrize(("seconds", "drifted"), [(3_600, False), (86_400, True)])
def test_a_window_of_the_service_judges_hours_where_it_lasts_a_day(
    scorer: Scorer, population: Columns, rules: MonitoringSettings, seconds: int, drifted: bool
) -> None:
    reference = scorer.artefact.reference
    hours = population.numbers[:, APPLICATION.position[HOUR]]
    mornings = population.take(np.flatnonzero(hours < 10)[:1_000])
    matrix = scorer.transformer.transform(mornings)
    counts = Window.of(reference, matrix, scorer.score_matrix(matrix).probability)
    findings = Findings.of(CompleteWindow(0.0, seconds, counts, reference), rules.drift, {})
    assert (HOUR in findings.drifted) is drifted
    assert WEEKDAY not in findings.drifted
