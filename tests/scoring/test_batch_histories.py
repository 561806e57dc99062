"""A batch job whose model reads histories: rows that state their roll-ups, and clients in the feature store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import StoreDownError, StoreError
from features.files import read_table
from features.materialize import RolledUp, materialize
from features.portfolio import Portfolio
from features.sources import open_source
from features.store import open_store
from jobs.destination import open_output
from jobs.errors import SettingsError
from jobs.output import replaced
from scoring.cli import main, served_ttl_days
from scoring.engines import Engine, InProcess, ProcessPool, run_job
from scoring.errors import BatchError
from scoring.histories import JobHistories
from scoring.job import BatchJob, Summary
from scoring.store import StoredModel
from tests.features.histories import DECLARED, EXPECTED, LENDER
from tests.redis_server import needs_redis, redis_server
from tests.scoring.history_models import NAMES, model
from tests.scoring.jobs import files, manifest, rows

OTHER = Portfolio.of({**DECLARED, "name": "other", "histories": json.loads(
    json.dumps(DECLARED["histories"]).replace("[90, 365]", "[90, 364]")
)})  # fmt: skip
CLIENTS = ["anna", "nobody", "ben", "old", "cleo", "foreign"]
SOURCES = ["store", "missing", "store", "stale", "store", "stale"]
PART_ROWS = 2


def fill(
    address: str, clients: dict[str, list[float | None]], *, days: float = 1, portfolio: Portfolio = LENDER
) -> None:
    """Fill a store with roll-ups of so many days ago."""
    as_of, matrix = datetime.now(UTC) - timedelta(days=days), np.array([*clients.values()], dtype=np.float64)
    materialize(address, portfolio, RolledUp([*clients], matrix), as_of, repr((clients, days)).encode())


def fill_all(address: str) -> str:
    """A store with young entries, an old one, and one of another declaration."""
    fill(address, {"foreign": [9.0] * 4}, portfolio=OTHER)
    fill(address, {"old": [9.0] * 4}, days=36)
    fill(address, EXPECTED, days=34)
    return address


@pytest.fixture
def store(tmp_path: Path) -> str:
    return fill_all(f"sqlite:///{tmp_path}/features.sqlite")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three parts of two applicants each, who state no roll-ups."""
    return write(tmp_path / "book.parquet", CLIENTS)


def write(path: Path, clients: list[str | None], **columns: Any) -> Path:
    table = pa.table({"client": pa.array(clients, pa.string()), "income": [2000.0] * len(clients), **columns})
    parquet.write_table(table, path, row_group_size=PART_ROWS)
    return path


def looked_up(address: str, ttl_days: float = 35) -> JobHistories:
    assert LENDER.histories is not None
    return JobHistories.at(address, LENDER.histories, ttl_days)


def job_of(source: Path, output: Path, histories: JobHistories | None, *, reference: str = "none:1") -> BatchJob:
    found = open_source(str(source), LENDER, part_rows=PART_ROWS)
    return BatchJob(found, model(), reference, open_output(str(output)), histories=histories)


def score(
    source: Path,
    output: Path,
    histories: JobHistories | None,
    *,
    engine: Engine | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Summary:
    summary = run_job(job_of(source, output, histories), engine or InProcess(model()), advance=progress)
    assert summary is not None
    return summary


def stated(values: list[list[float | None]]) -> dict[str, pa.Array]:
    """The columns of a file that states roll-ups."""
    return {name: pa.array(column, pa.float64()) for name, column in zip(NAMES, zip(*values, strict=True), strict=True)}


def test_each_row_says_where_its_roll_ups_come_from_and_the_manifest_counts_them(
    store: str, source: Path, output: Path
) -> None:
    summary = score(source, output, looked_up(store))
    assert [row["history"] for row in rows(output)] == SOURCES
    assert summary.histories == manifest(output)["histories"] == {"missing": 1, "stale": 2, "store": 3}


def test_roll_ups_of_the_store_decide_as_if_the_file_stated_them(
    store: str, source: Path, output: Path, tmp_path: Path
) -> None:
    score(source, output, looked_up(store))
    values = [EXPECTED.get(client, [None] * 4) for client in CLIENTS]
    stating = write(tmp_path / "stating.parquet", [*CLIENTS], **stated(values))
    score(stating, tmp_path / "stated", JobHistories())
    assert [row["history"] for row in rows(tmp_path / "stated")] == ["request", "missing"] * 3
    for found, expected in zip(rows(output), rows(tmp_path / "stated"), strict=True):
        assert found | {"history": ""} == expected | {"history": ""}
    assert rows(output)[0]["missing"] < rows(output)[1]["missing"]


def test_the_roll_ups_that_are_filled_in_are_those_of_the_store(store: str) -> None:
    clients = [*CLIENTS, None, "anna", "anna", "anna"]
    debt = pa.array([None] * 7 + [5.0, None, None], pa.float64())
    table = pa.table({"client": clients, "income": [2000.0] * len(clients), "open_debt": debt})
    columns = read_table(table, LENDER).columns
    wanted = np.array([True] * 9 + [False])
    with looked_up(store).opened(LENDER, datetime.now(UTC).timestamp()) as filler:
        filler.fill(columns, table["client"], wanted)
    nothing = [None] * 4
    known = [EXPECTED["anna"], nothing, EXPECTED["ben"], nothing, EXPECTED["cleo"], nothing, nothing]
    filled = [[None if np.isnan(x) else x for x in row] for row in columns.numbers[:, -4:].tolist()]
    assert filled == [*known, [None, None, 5.0, None], EXPECTED["anna"], nothing]


@pytest.mark.parametrize(("ttl_days", "expected"), [(33, "stale"), (35, "store"), (40, "store")])
def test_an_entry_is_used_until_its_ttl(
    store: str, output: Path, tmp_path: Path, ttl_days: float, expected: str
) -> None:
    score(write(tmp_path / "anna.parquet", ["anna"]), output, looked_up(store, ttl_days))
    assert [row["history"] for row in rows(output)] == [expected]


def test_rows_that_state_their_roll_ups_are_not_looked_up(store: str, output: Path, tmp_path: Path) -> None:
    histories = looked_up(store)
    Path(store.removeprefix("sqlite:///")).unlink()
    score(write(tmp_path / "a.parquet", ["anna", "ben"], open_debt=[5.0, 0.0]), output, histories)
    assert [row["history"] for row in rows(output)] == ["request", "request"]


def test_without_a_store_what_is_not_stated_is_missing(source: Path, output: Path) -> None:
    assert score(source, output, JobHistories()).histories == {"missing": 6}


def test_a_rejected_row_is_not_counted(store: str, output: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("client,income\nanna,2000\nben,-1\n")
    assert score(source, output, looked_up(store)).histories == {"store": 1}


def test_a_store_that_goes_down_ends_the_job_and_finished_parts_stay(store: str, source: Path, output: Path) -> None:
    path = Path(store.removeprefix("sqlite:///"))
    content = path.read_bytes()
    histories = looked_up(store)
    with pytest.raises(StoreDownError, match=r"^the feature store cannot be read \(FileNotFoundError\)$"):
        score(source, output, histories, progress=lambda _: path.unlink(missing_ok=True))
    assert [path.name for path in output.with_name("out.unfinished").glob("part-*.parquet")] == ["part-00000.parquet"]
    with replaced(path) as file:
        file.write(content)
    again: list[int] = []
    score(source, output, looked_up(store), progress=again.append)
    assert again == [2, 2, 2]  # the first are those of the finished part
    assert [row["history"] for row in rows(output)] == SOURCES


def test_a_store_that_is_down_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreDownError):
        looked_up(f"sqlite:///{tmp_path}/nothing.sqlite")
    with pytest.raises(StoreError, match="is no feature store"):
        looked_up("ftp://somewhere")


def test_a_store_that_is_filled_anew_while_the_job_runs_ends_it(store: str, source: Path, output: Path) -> None:
    with pytest.raises(BatchError, match="the feature store has changed since the job was begun"):
        score(source, output, looked_up(store), progress=lambda _: fill(store, {"nobody": [0.0, 0.0, None, None]}))


def begin(source: Path, output: Path, histories: JobHistories) -> None:
    """Finish the first part only."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(source, output, histories, progress=interrupt)


@pytest.mark.parametrize("done", [False, True])
def test_another_store_ttl_or_content_is_another_job(
    store: str, source: Path, output: Path, tmp_path: Path, done: bool
) -> None:
    (score if done else begin)(source, output, looked_up(store))
    where = f"{output}: holds the result of" if done else f"{output}.unfinished: was begun with"

    def refused(histories: JobHistories | None) -> str:
        with pytest.raises(BatchError) as caught:
            score(source, output, histories)
        said = str(caught.value)
        assert said.startswith(where)
        return said.removeprefix(where).partition(";")[0].strip()

    other = fill_all(f"sqlite:///{tmp_path}/other.sqlite")
    assert refused(looked_up(other)) == f"another feature store, {store}"
    assert refused(JobHistories()) == f"another feature store, {store}"
    assert refused(looked_up(store, 36)) == "--ttl-days 35, not 36"
    fill(store, {"nobody": [0.0, 0.0, None, None]})
    assert refused(looked_up(store)) == "another state of the feature store"


def test_an_entry_that_becomes_stale_before_a_restart_is_used_all_the_same(
    source: Path, output: Path, tmp_path: Path
) -> None:
    """What a job decides does not depend on when it was started again."""
    address = f"sqlite:///{tmp_path}/features.sqlite"
    fill(address, EXPECTED, days=34.999)
    histories = looked_up(address)
    begin(source, output, histories)
    plan = output.with_name("out.unfinished") / "_work" / "plan.json"
    values = json.loads(plan.read_text())
    earlier = datetime.fromisoformat(values["begun"]) - timedelta(days=10)
    plan.write_text(json.dumps(values | {"begun": earlier.isoformat()}))
    score(source, output, JobHistories(histories.store, 35, histories.version))
    assert [row["history"] for row in rows(output)] == ["store", "missing", "store", "missing", "store", "missing"]
    score(source, tmp_path / "late", looked_up(address, 34))
    assert "store" not in {row["history"] for row in rows(tmp_path / "late")}


@pytest.mark.slow
def test_processes_open_the_store_themselves_and_write_the_same(
    store: str, source: Path, output: Path, tmp_path: Path
) -> None:
    score(source, output, looked_up(store))
    model().scorer.artefact.write(tmp_path / "model")
    job = job_of(source, tmp_path / "two", looked_up(store), reference=str(tmp_path / "model"))
    assert run_job(job, ProcessPool(2)) is not None
    assert files(tmp_path / "two") == files(output)


@needs_redis
def test_a_redis_is_read_and_its_password_is_in_no_file(source: Path, output: Path) -> None:
    from redis import Redis

    with redis_server() as server:
        Redis.from_url(server.address).config_set("requirepass", "kgjq")
        address = server.address.replace("127.0.0.1", ":kgjq@127.0.0.1")
        fill_all(address)
        score(source, output, looked_up(address))
        assert [row["history"] for row in rows(output)] == SOURCES
        assert manifest(output)["plan"]["histories"]["store"] == server.address
        assert not [path for path in output.rglob("*") if path.is_file() and b"kgjq" in path.read_bytes()]


@needs_redis
def test_a_redis_that_stops_ends_the_job_in_one_line(source: Path, output: Path) -> None:
    with redis_server() as server:
        fill_all(server.address)
        with pytest.raises(StoreDownError, match=r"^the feature store does not answer \(ConnectionError\)$"):
            score(source, output, looked_up(server.address), progress=lambda _: server.stop())


@pytest.mark.parametrize("address", ["sqlite", pytest.param("redis", marks=needs_redis)])
def test_many_are_looked_up_as_each_is(address: str, store: str) -> None:
    assert LENDER.histories is not None
    clients = [*CLIENTS, "anna", "ä\"'"]
    with redis_server() as server:
        found = store if address == "sqlite" else fill_all(server.address)
        opened = open_store(found, LENDER.histories, seconds=5)
        many = opened.look_up_many(clients)
        for row, one in enumerate(map(opened.look_up, clients)):
            assert np.isnan(many.as_of[row]) if one is None else many.as_of[row] == one.as_of
            assert many.declared[row] == (one is not None and one.values is not None)
            values = np.full(4, np.nan) if one is None or one.values is None else one.values
            assert many.values[row].tobytes() == np.where(np.isnan(values), np.nan, values).tobytes()
        opened.close()


def test_a_damaged_entry_among_many_is_told(store: str) -> None:
    assert LENDER.histories is not None
    with sqlite3.connect(store.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE entries SET entry = x'00' WHERE client = 'ben'")
    connection.close()
    opened = open_store(store, LENDER.histories, seconds=5)
    assert not np.isnan(opened.look_up_many(["anna"]).as_of).any()
    with pytest.raises(StoreDownError, match="damaged"):
        opened.look_up_many(["anna", "ben"])
    opened.close()


def arguments(source: Path, output: Path, folder: Path, *options: str) -> list[str]:
    named = ["--input", str(source), "--output", str(output), "--model", f"{folder}/", "--workers", "1"]
    return ["batch", *named, *options]


def counted(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines, start = capsys.readouterr().out.splitlines(), "  history, "
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def test_the_command_takes_the_store_from_its_option_or_the_environment(
    store: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    model().scorer.artefact.write(folder)
    assert main(arguments(source, tmp_path / "a", folder, "--store", store)) == 0
    assert counted(capsys) == ["missing: 1", "stale: 2", "store: 3"]
    assert manifest(tmp_path / "a")["plan"]["histories"]["ttl_days"] == served_ttl_days() == 35
    monkeypatch.setenv("FEATURE_STORE", store)
    assert main(arguments(source, tmp_path / "b", folder, "--ttl-days", "40")) == 0
    assert counted(capsys) == ["missing: 1", "stale: 1", "store: 4"]
    monkeypatch.setenv("FEATURE_STORE_FILE", str(tmp_path / "address"))
    assert main(arguments(source, tmp_path / "d", folder)) == 1
    assert capsys.readouterr().err == "error: FEATURE_STORE and FEATURE_STORE_FILE are both set: set one of them\n"
    monkeypatch.delenv("FEATURE_STORE")
    (tmp_path / "address").write_text(store)
    assert main(arguments(source, tmp_path / "d", folder)) == 0
    assert counted(capsys) == ["missing: 1", "stale: 2", "store: 3"]
    assert main(arguments(source, tmp_path / "c", folder, "--store", f"sqlite:///{tmp_path}/no.sqlite")) == 1
    assert capsys.readouterr().err == "error: the feature store cannot be read (FileNotFoundError)\n"
    assert not [*tmp_path.glob("c*")]


def test_a_dry_run_looks_its_first_rows_up_and_writes_nothing(
    store: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    model().scorer.artefact.write(folder)
    asked = arguments(source, tmp_path / "a", folder, "--dry-run", "--store")
    assert main([*asked, store]) == 0
    assert counted(capsys) == ["missing: 1", "stale: 2", "store: 3"]
    assert main([*asked, store, "--limit", "2", "--without-history", "refuse"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == [
        "of the first 2 rows, 1 are scored and 1 rejected", "  rejected, history: must be known: 1",
        "  history, store: 1",
    ]  # fmt: skip
    assert main([*asked, f"sqlite:///{tmp_path}/no.sqlite"]) == 1
    assert capsys.readouterr().err == "error: the feature store cannot be read (FileNotFoundError)\n"
    assert not [*tmp_path.glob("a*")]


def test_a_model_that_reads_no_roll_ups_ignores_the_store(
    small: StoredModel, labelled_csv: Path, output: Path, tmp_path: Path
) -> None:
    small.scorer.artefact.write(tmp_path / "model")
    assert main(arguments(labelled_csv, output, tmp_path / "model", "--store", f"sqlite:///{tmp_path}/no.sqlite")) == 0
    assert "history" not in rows(output)[0]
    assert manifest(output)["histories"] == {}


@pytest.mark.parametrize("content", ["model: a\n", "histories: {ttl_days: 0}\n", "histories: {ttl_days: yes}\n"])
def test_settings_without_a_ttl_are_refused(tmp_path: Path, content: str) -> None:
    settings = tmp_path / "serving.yaml"
    settings.write_text(content)
    with pytest.raises(SettingsError, match=r"serving.yaml: histories: ttl_days: must be a positive number"):
        served_ttl_days(settings)
