"""The feature store: what is written is looked up, as a whole or not at all, in SQLite and in a real Redis."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from features.cli import main
from features.errors import StoreDownError, StoreError
from features.histories import Histories
from features.materialize import Inputs, RolledUp, export, is_filled_with, materialize, roll_up_clients
from features.portfolio import Portfolio
from features.store import FeatureStore, open_store, stated_address
from jobs.commandline import Progress
from jobs.output import locked
from tests.features.histories import DECLARED, EXPECTED, LENDER, write_histories
from tests.redis_server import RedisServer, needs_redis, redis_server

AS_OF = datetime(2026, 11, 29, tzinfo=UTC)
WIDTH = 4


def histories(portfolio: Portfolio = LENDER) -> Histories:
    assert portfolio.histories is not None
    return portfolio.histories


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/features.sqlite"
    address: str = request.getfixturevalue("redis").address
    _flush(address)
    return address


def _flush(address: str) -> None:
    from redis import Redis

    Redis.from_url(address).flushall()


def opened(address: str, portfolio: Portfolio = LENDER) -> FeatureStore:
    return open_store(address, histories(portfolio), seconds=5)


def filled(value: float, *clients: str) -> RolledUp:
    return RolledUp(clients, np.full((len(clients), WIDTH), value))


def values(store: FeatureStore, client: str) -> list[float | None] | None:
    entry = store.look_up(client)
    if entry is None:
        return None
    assert entry.values is not None
    return [None if np.isnan(value) else value for value in entry.values.tolist()]


def test_the_roll_ups_of_a_folder_are_looked_up(address: str, tmp_path: Path) -> None:
    rolled_up = roll_up_clients(write_histories(tmp_path / "data"), LENDER, AS_OF, Progress(quiet=True))
    materialize(address, LENDER, rolled_up, AS_OF)
    store = opened(address)
    assert {client: values(store, client) for client in EXPECTED} == EXPECTED
    assert store.look_up("nobody") is None
    entry = store.look_up("anna")
    assert entry is not None
    assert entry.as_of == AS_OF.timestamp()


def test_clients_that_are_not_written_anew_keep_their_entries(address: str) -> None:
    materialize(address, LENDER, filled(1.0, "anna", "ben"), AS_OF)
    store = opened(address)
    assert values(store, "anna") == [1.0] * WIDTH
    materialize(address, LENDER, filled(2.0, "ben", "cleo"), AS_OF)
    assert [values(store, client) for client in ("anna", "ben", "cleo")] == [[1.0] * 4, [2.0] * 4, [2.0] * 4]


def test_an_entry_of_another_declaration_has_no_values(address: str) -> None:
    changed = json.loads(json.dumps(DECLARED))
    changed["histories"]["credits"]["rollups"]["credits"]["within"] = [90, 364]
    other = Portfolio.of({**changed, "name": "other"})
    materialize(address, other, filled(1.0, "anna"), AS_OF)
    found = opened(address).look_up("anna")
    assert found is not None
    assert (found.as_of, found.values) == (AS_OF.timestamp(), None)
    entry = opened(address, other).look_up("anna")
    assert entry is not None
    assert entry.values is not None


def test_a_store_that_is_not_there_is_down(tmp_path: Path) -> None:
    with pytest.raises(StoreDownError):
        opened(f"sqlite:///{tmp_path}/nothing.sqlite").look_up("anna")


def test_a_file_that_is_no_store_is_down_until_it_is_one(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/a.sqlite"
    (tmp_path / "a.sqlite").write_bytes(b"x" * 5000)
    store = opened(address)
    with pytest.raises(StoreDownError):
        store.look_up("anna")
    (tmp_path / "a.sqlite").unlink()
    materialize(address, LENDER, filled(1.0, "anna"), AS_OF)
    assert values(store, "anna") == [1.0] * WIDTH


@pytest.mark.parametrize("damage", ["x'00'", "'a text'", "NULL", "substr(entry, 1, length(entry) - 8)", "7"])
def test_a_damaged_entry_is_told(tmp_path: Path, damage: str) -> None:
    address = f"sqlite:///{tmp_path}/a.sqlite"
    materialize(address, LENDER, filled(1.0, "anna"), AS_OF)
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute(f"UPDATE entries SET entry = {damage}")  # noqa: S608 - the test's own
    with pytest.raises(StoreDownError, match="damaged"):
        opened(address).look_up("anna")


@needs_redis
def test_a_redis_that_stops_is_down_and_its_return_is_noticed(redis: RedisServer) -> None:
    with redis_server() as own:
        materialize(own.address, LENDER, filled(1.0, "anna"), AS_OF)
        store = opened(own.address)
        assert values(store, "anna") == [1.0] * WIDTH
        own.stop()
        with pytest.raises(StoreDownError):
            store.look_up("anna")
        with redis_server(port=own.port):
            assert store.look_up("anna") is None  # it kept nothing
            materialize(own.address, LENDER, filled(2.0, "anna"), AS_OF)
            assert values(store, "anna") == [2.0] * WIDTH


@needs_redis
def test_a_redis_that_hangs_is_down_in_time() -> None:
    with redis_server() as own:
        store = open_store(own.address, histories(), seconds=0.2)
        store.look_up("anna")
        os.kill(own.process.pid, signal.SIGSTOP)
        try:
            before = time.monotonic()
            with pytest.raises(StoreDownError):
                store.look_up("anna")
            assert time.monotonic() - before < 5
        finally:
            os.kill(own.process.pid, signal.SIGCONT)


@needs_redis
def test_a_redis_that_is_full_keeps_the_old_store() -> None:
    with redis_server("--maxmemory", "3mb") as own:
        materialize(own.address, LENDER, filled(1.0, "anna"), AS_OF)
        many = filled(2.0, "anna", *(f"client-{i}" for i in range(50_000)))
        with pytest.raises(StoreError):
            materialize(own.address, LENDER, many, AS_OF)
        store = opened(own.address)
        assert values(store, "anna") == [1.0] * WIDTH
        assert store.look_up("client-1") is None


@pytest.mark.parametrize("address", ["mysql://user:S3CR3T@host/db", "features.sqlite", "redis://:S3CR3T@host:port/0"])
def test_another_address_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(StoreError) as refused:
        opened(address)
    assert "S3CR3T" not in str(refused.value)


def in_file(folder: Path, content: str) -> dict[str, str]:
    """The environment that names a file with this content."""
    (folder / "address").write_text(content)
    return {"FEATURE_STORE_FILE": str(folder / "address")}


@pytest.mark.parametrize("address", ["redis://:S3CR3T@host:6379/0", "sqlite:////var/lib/features.sqlite"])
def test_an_address_comes_from_the_variable_or_from_a_file(tmp_path: Path, address: str) -> None:
    assert stated_address({"FEATURE_STORE": address}) == address
    assert stated_address(in_file(tmp_path, f"{address}\n")) == address
    assert stated_address({"FEATURE_STORE": "", "FEATURE_STORE_FILE": ""}) is None


def test_a_path_is_absolute_in_a_file_and_becomes_so_in_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert stated_address({"FEATURE_STORE": "sqlite:///a.sqlite"}) == f"sqlite:///{tmp_path}/a.sqlite"
    with pytest.raises(StoreError) as refused:
        stated_address(in_file(tmp_path, "sqlite:///a.sqlite"))
    said = f"FEATURE_STORE_FILE: the content of {tmp_path}/address must have an absolute path: sqlite:////PATH"
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "content",
    ["", "S3CR3T", "S3CR3T://host/db", "redis://S3CR3T:port/0", "redis://host/0\nS3CR3T", "redis://host/\x00S3CR3T"],
    ids=["empty", "password", "scheme", "port", "lines", "control"],
)
def test_a_file_without_an_address_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    with pytest.raises(StoreError) as refused:
        stated_address(in_file(tmp_path, content))
    form = "sqlite:///PATH, or an address such as redis://HOST:PORT/0"
    said = f"FEATURE_STORE_FILE: the content of {tmp_path}/address is no feature store: write {form}"
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FEATURE_STORE": "S3CR3T"}, "FEATURE_STORE is no feature store: "),
        ({"FEATURE_STORE_FILE": "/nowhere/address"}, "FEATURE_STORE_FILE: /nowhere/address cannot be read (No "),
        ({"FEATURE_STORE": "S3CR3T", "FEATURE_STORE_FILE": "/nowhere/address"},
         "FEATURE_STORE and FEATURE_STORE_FILE are both set: set one of them"),
    ],
    ids=["none", "no file", "both"],
)  # fmt: skip
def test_what_states_no_address_is_one_error_without_it(environment: dict[str, str], said: str) -> None:
    with pytest.raises(StoreError) as refused:
        stated_address(environment)
    assert str(refused.value).startswith(said)
    assert "S3CR3T" not in str(refused.value)


def test_a_client_with_an_application_and_no_row_has_an_empty_history(tmp_path: Path) -> None:
    data = write_histories(tmp_path / "data")
    parquet.write_table(pa.table({"client": ["dora", "anna"], "bad": ["1", "0"]}), data / "train.parquet")
    rolled_up = roll_up_clients(data, LENDER, AS_OF, Progress(quiet=True))
    found = dict(zip(rolled_up.clients, rolled_up.matrix.tolist(), strict=True))
    assert [*found] == ["anna", "ben", "cleo", "dora"]
    assert found["dora"][:2] == [0.0, 0.0]
    assert np.isnan(found["dora"][2:]).all()


@needs_redis
def test_two_writers_of_redis_refuse_each_other(redis: RedisServer) -> None:
    from redis import Redis

    with Redis.from_url(redis.address).lock("credit-scoring:features:lock", timeout=60), pytest.raises(StoreError):
        materialize(redis.address, LENDER, filled(1.0, "anna"), AS_OF)


def test_two_writers_refuse_each_other(tmp_path: Path) -> None:
    with locked(tmp_path / ".a.sqlite.lock"), pytest.raises(StoreError, match="another process writes"):
        materialize(f"sqlite:///{tmp_path}/a.sqlite", LENDER, filled(1.0, "anna"), AS_OF)


def _write_again_and_again(address: str) -> None:
    clients = [f"client-{i}" for i in range(3_000)]
    for value in np.random.default_rng().random(10_000):
        materialize(address, LENDER, RolledUp(clients, np.full((3_000, WIDTH), value)), AS_OF)


def test_killed_at_any_moment_a_writer_leaves_one_store_whole(address: str) -> None:
    clients = ["client-0", "client-1499", "client-2999"]
    materialize(address, LENDER, RolledUp([f"client-{i}" for i in range(3_000)], np.zeros((3_000, WIDTH))), AS_OF)
    context, random, before = multiprocessing.get_context("spawn"), np.random.default_rng(0), [0.0] * WIDTH
    for _ in range(6):
        writer = context.Process(target=_write_again_and_again, args=(address,))
        writer.start()
        deadline = time.monotonic() + 120
        while values(opened(address), clients[0]) == before:  # until it writes
            assert time.monotonic() < deadline
        time.sleep(random.uniform(0, 0.3))
        writer.kill()
        writer.join()
        found = [values(opened(address), client) for client in clients]
        assert found[0] == found[1] == found[2]
        assert found[0] is not None
        before = found[0]
    materialize(address, LENDER, filled(-1.0, "client-0"), AS_OF)
    assert values(opened(address), "client-0") == [-1.0] * WIDTH


def test_the_export_has_the_entity_the_moment_and_every_roll_up(tmp_path: Path) -> None:
    rolled_up = roll_up_clients(write_histories(tmp_path / "data"), LENDER, AS_OF, Progress(quiet=True))
    export(tmp_path / "out.parquet", LENDER, rolled_up, AS_OF)
    table = parquet.read_table(tmp_path / "out.parquet")
    names = [column.name for column in histories().columns]
    assert table.column_names == ["client", "event_timestamp", *names]
    assert table["client"].to_pylist() == [*EXPECTED]
    assert set(table["event_timestamp"].to_pylist()) == {AS_OF}
    assert [list(row.values())[2:] for row in table.to_pylist()] == [*EXPECTED.values()]


def test_the_commands_fill_a_store_and_write_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "portfolio.yaml").write_text(json.dumps(DECLARED))
    data = str(write_histories(tmp_path / "data"))
    common = ["--data", data, "--portfolio", str(tmp_path / "portfolio.yaml")]
    os.utime(tmp_path / "data" / "credits.parquet", (0, AS_OF.timestamp() - 86_400))
    address = f"sqlite:///{tmp_path}/a.sqlite"
    assert main(["materialize", *common, "--store", address]) == 0
    assert "3 clients as of 2026-11-28 00:00 UTC" in capsys.readouterr().out  # as old as the oldest file
    written = (tmp_path / "a.sqlite").stat().st_ino
    assert main(["materialize", *common, "--store", address]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "a.sqlite").stat().st_ino == written
    assert main(["materialize", *common, "--store", address, "--as-of", "2026-11-29"]) == 0
    assert "3 clients as of 2026-11-29 00:00 UTC" in capsys.readouterr().out
    assert values(opened(address), "anna") == EXPECTED["anna"]
    assert main(["export", *common, "--output", str(tmp_path / "a.parquet")]) == 0
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 3
    (tmp_path / "data" / "credits.parquet").unlink()
    (tmp_path / "data" / "months.parquet").unlink()
    capsys.readouterr()
    assert main(["materialize", *common, "--store", address]) == 1
    assert "no file of histories" in capsys.readouterr().err
    assert values(opened(address), "anna") == EXPECTED["anna"]


def test_the_command_fills_the_store_that_the_environment_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "portfolio.yaml").write_text(json.dumps(DECLARED))
    data = str(write_histories(tmp_path / "data"))
    command = ["materialize", "--data", data, "--portfolio", str(tmp_path / "portfolio.yaml")]
    assert main(command) == 2
    assert capsys.readouterr().err == (
        "error: --store, FEATURE_STORE or FEATURE_STORE_FILE must name the feature store\n"
    )
    for name, value in in_file(tmp_path, f"sqlite:///{tmp_path}/a.sqlite").items():
        monkeypatch.setenv(name, value)
    assert main(command) == 0
    assert values(opened(f"sqlite:///{tmp_path}/a.sqlite"), "anna") == EXPECTED["anna"]
    assert main([*command, "--store", f"sqlite:///{tmp_path}/b.sqlite"]) == 0
    assert values(opened(f"sqlite:///{tmp_path}/b.sqlite"), "anna") == EXPECTED["anna"]
    (tmp_path / "address").write_text("")
    capsys.readouterr()
    assert main(command) == 1
    assert capsys.readouterr().err.startswith("error: FEATURE_STORE_FILE: the content of ")


def test_a_store_that_is_asked_what_it_was_filled_with_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = list[FeatureStore]()

    def hold(address: str, declared: Histories, *, seconds: float) -> FeatureStore:
        held.append(open_store(address, declared, seconds=seconds))
        return held[-1]

    inputs = Inputs.of(write_histories(tmp_path / "data"), LENDER, AS_OF)
    materialize(f"sqlite:///{tmp_path}/a.sqlite", LENDER, filled(1.0, "anna"), AS_OF, inputs.fingerprint)
    monkeypatch.setattr("features.materialize.open_store", hold)
    assert is_filled_with(f"sqlite:///{tmp_path}/a.sqlite", LENDER, inputs)
    assert len(held) == 1
    assert str(tmp_path / "a.sqlite") not in [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]


def test_a_table_that_is_absent_leaves_its_roll_ups_missing(tmp_path: Path) -> None:
    data = write_histories(tmp_path / "data")
    (data / "months.parquet").unlink()
    rolled_up = roll_up_clients(data, LENDER, AS_OF, Progress(quiet=True))
    assert np.isnan(rolled_up.matrix).all()  # the credits have columns of the months
