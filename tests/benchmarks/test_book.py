"""The whole book in small: what is generated, what is measured, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from benchmarks.applications import write_book
from benchmarks.bars import book_verdicts
from benchmarks.book import BookRecord, Figure, check_decisions, stages, time_trees
from benchmarks.errors import BenchmarkError
from benchmarks.peers.original_design.batch import score
from benchmarks.peers.original_design.features import with_domain_features
from benchmarks.peers.original_design.train import fit
from benchmarks.report import report_book
from features.files import open_file
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.benchmarks.examples import MACHINE, MODEL, SETTINGS
from tests.home_credit import APPLICATION
from tests.scoring.jobs import score_files

ROWS, FILE_ROWS = 700, 300


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book") / "applications"
    write_book(folder, rows=ROWS, file_rows=FILE_ROWS, seed=3, processes=2)
    return folder


@pytest.fixture(scope="module")
def scorer(stored: StoredModel) -> Scorer:
    return stored.scorer


def figure(what: str, us: float, *, rows: int = 1_000_000, peak_mb: float = 0.0) -> Figure:
    return Figure(what=what, rows=rows, seconds=us * rows / 1e6, us=us, cpu_us=2 * us, peak_mb=peak_mb)


RECORD = BookRecord(
    measured_at="2026-11-22T16:00:00+00:00", commit=None, command="python -m benchmarks book", machine=MACHINE,
    model=MODEL, settings={},
    jobs=(figure("job", 4.0, rows=1_000, peak_mb=300.0), figure("job", 5.0, peak_mb=900.0)),
    without_reasons=figure("job, no reasons", 4.0), booster=figure("Booster.predict", 10.0),
    pandas=figure("pandas", 10.0), pandas_with_reasons=figure("pandas, reasons", 40.0),
    one_thread=(figure("trees", 3.0), figure("LightGBM", 18.0)), declined=0.125,
    stages_us={"read": 3.0, "trees": 1.5}, written_seconds=60.0,
)  # fmt: skip


def test_a_book_has_its_rows_in_files_and_no_two_are_equal(book):
    files = [pd.read_parquet(path) for path in sorted(book.iterdir())]
    assert [len(file) for file in files] == [300, 300, 100]
    rows = pd.concat(files)
    assert set(rows.columns) == {"SK_ID_CURR", *(column.name for column in APPLICATION.stated)}
    assert rows["SK_ID_CURR"].is_unique
    assert not rows.drop(columns="SK_ID_CURR").duplicated().any()


def test_every_application_of_a_book_keeps_the_declared_rules(book, scorer):
    for path in book.iterdir():
        for batch in open_file(path, scorer.artefact.portfolio).batches(1_000):
            assert list(batch.violations) == []


def test_a_book_is_the_same_whoever_writes_it(book, tmp_path):
    write_book(tmp_path / "again", rows=ROWS, file_rows=FILE_ROWS, seed=3, processes=1)
    for path in book.iterdir():
        assert parquet.read_table(tmp_path / "again" / path.name).equals(parquet.read_table(path))


def test_the_share_of_declines_is_that_of_the_decisions(book, stored, tmp_path):
    score_files(book, tmp_path / "decisions", stored)
    decided = pd.concat(pd.read_parquet(path) for path in sorted((tmp_path / "decisions").glob("part-*.parquet")))
    assert check_decisions(stored.scorer, book, tmp_path / "decisions", ROWS) == (decided.decision == "decline").mean()
    assert {"read", "score"} <= set(stages(tmp_path / "decisions", ROWS))


def test_decisions_that_are_missing_or_wrong_are_an_error(book, stored, tmp_path):
    score_files(book, tmp_path / "decisions", stored)
    with pytest.raises(BenchmarkError, match=r"^700 decisions on 701 applications$"):
        check_decisions(stored.scorer, book, tmp_path / "decisions", ROWS + 1)
    first = min((tmp_path / "decisions").glob("part-*.parquet"))
    spoilt = pd.read_parquet(first)
    spoilt.loc[7, "probability"] = np.nextafter(spoilt.loc[7, "probability"], 1)
    spoilt.to_parquet(first)
    with pytest.raises(BenchmarkError, match=r"^the decisions are not the scorer's$"):
        check_decisions(stored.scorer, book, tmp_path / "decisions", ROWS)


def test_trees_are_timed_on_the_book_itself(book, scorer, tmp_path):
    scorer.artefact.write(tmp_path / "artefact")
    plan = SETTINGS.book.model_copy(update={"matrix_rows": 200, "booster_rows": 600})
    timed = time_trees(tmp_path / "artefact", book, plan)
    assert [each.rows for each in timed] == [600, 400, 400]
    assert all(each.us > 0 for each in timed)


def test_the_original_design_scores_every_row_of_a_book(book, tmp_path):
    raw = pd.concat(pd.read_parquet(path) for path in sorted(book.iterdir())).reset_index(drop=True)
    frame = with_domain_features(raw.drop(columns="SK_ID_CURR"))
    model = fit(frame, pd.Series(np.arange(ROWS) % 2), trees=3, leaves=4, seed=1)
    score(model, book, tmp_path / "scores.parquet", explained=0.25)
    scored = pd.read_parquet(tmp_path / "scores.parquet")
    assert scored["SK_ID_CURR"].tolist() == raw["SK_ID_CURR"].tolist()
    assert scored["probability"].tolist() == model.predict_proba(frame)[:, 1].tolist()
    told = scored["reasons"].notna()
    assert ROWS / 4 <= told.sum() < ROWS
    assert scored.loc[told, "reasons"].str.split().map(len).eq(4).all()


def test_the_bars_are_of_the_largest_book_and_the_most_memory():
    found = book_verdicts(RECORD, SETTINGS.bars)
    assert [verdict.value for verdict in found] == [0.5, 0.125, 0.4, 900.0, 1.25]
    assert [verdict.met for verdict in found] == [True, False, True, True, False]


def test_the_page_has_a_row_for_every_figure(tmp_path):
    RECORD.write(tmp_path / "book.json")
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- book -->\nold\n<!-- /book -->\nafter\n")
    said = report_book(BookRecord.read(tmp_path / "book.json"), SETTINGS.bars, page)
    assert page.read_text() == f"before\n<!-- book -->\n{said}<!-- /book -->\nafter\n"
    assert "| job | 1,000,000 | 5.00 | 5.00 | 10.0 | 900 |" in said
    assert "| LightGBM | 1,000,000 | 18.0 | 18.0 | 36.0 | - |" in said
    assert "stage, µs for one application: read 3.00, trees 1.50." in said
    assert "12.5% of the applications are declined" in said
