"""Applications from a real PostgreSQL, and tables of decisions in it."""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import BigInteger, Column, Date, DateTime, MetaData, Numeric, Table, Text, create_engine, insert, text

from features.database import DecisionTable
from features.errors import ColumnsError, FileError
from features.portfolio import Portfolio
from features.sources import ApplicationSource, open_source
from tests import postgres
from tests.features.examples import NAMES, REQUIRED
from tests.home_credit import APPLICATION, NAMELESS, PORTFOLIO
from tests.server import free_port
from tests.skipped import missing

pytestmark = pytest.mark.slow  # a server is started
WHOLE = {column.name for column in APPLICATION.numeric}
DECISIONS = pa.schema([("client_id", pa.string()), ("probability", pa.float64()), ("score", pa.int64())])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A database with the table `applications` of the applicants 1 to 10."""
    programs = postgres.installed()
    if programs is None:
        pytest.skip(missing("initdb"))
    with postgres.running(programs) as running:
        found = running.replace("postgresql:", "postgresql+psycopg:")
        kinds = {name: Numeric() if name in WHOLE else Text() for name in NAMES}
        kinds |= {"SK_ID_CURR": BigInteger(), "DECIDED": Date(), "AT": DateTime(timezone=True)}
        table = Table("applications", MetaData(), *(Column(name, kind) for name, kind in kinds.items()))
        days = [datetime(2026, 11, i, tzinfo=UTC) for i in range(1, 11)]
        own = [{"SK_ID_CURR": at.day, "AMT_ANNUITY": at.day / 8, "DECIDED": at.date(), "AT": at} for at in days]
        engine = create_engine(found)
        with engine.begin() as connection:
            table.create(connection)
            connection.execute(insert(table), [{**REQUIRED, **one} for one in own])
        engine.dispose()
        yield found


def execute(address: str, sql: str) -> list[tuple[object, ...]]:
    """What a statement gives, a row each."""
    engine = create_engine(address)
    with engine.begin() as connection:
        result = connection.execute(text(sql))
        found = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return found


def refused(*arguments: object, error: type[Exception] = FileError, **options: object) -> str:
    """Why a source is refused."""
    with pytest.raises(error) as refusal:
        named(open_source(*arguments, PORTFOLIO, **options))
    return str(refusal.value)


def named(source: ApplicationSource, rows: int = 4) -> list[list[int]]:
    """The applicants of each part."""
    found = []
    for part in source.parts:
        batches = part.batches(rows, PORTFOLIO, others=source.identifier.others)
        found.append(sorted(name for batch in batches for name in source.identifier.of(part, batch).to_pylist()))
    return found


def shown(address: str) -> str:
    return address.replace("tests@", "")


def test_a_table_is_read_in_batches(address):
    source = open_source(address, PORTFOLIO, table="applications")
    assert source.address == shown(address)
    assert source.ignored_columns == ("AT", "DECIDED")
    [part] = source.parts
    assert (part.rows, part.fingerprint) == (None, f"{shown(address)}: table applications")
    batches = list(part.batches(4, PORTFOLIO, others=["SK_ID_CURR", "DECIDED"]))
    assert [(batch.first_row, len(batch)) for batch in batches] == [(0, 4), (4, 4), (8, 2)]
    assert [violation for batch in batches for violation in batch.violations] == []
    assert batches[0].others["DECIDED"].type == pa.date32()
    annuity = APPLICATION.position["AMT_ANNUITY"]
    assert sorted(x for batch in batches for x in batch.columns.numbers[:, annuity]) == [i / 8 for i in range(1, 11)]
    assert math.isnan(batches[0].columns.numbers[0, APPLICATION.position["EXT_SOURCE_1"]])
    kind = APPLICATION.position["NAME_CONTRACT_TYPE"]
    assert batches[0].columns.levels[:, kind].tolist() == ["Cash loans"] * 4


def test_values_have_the_types_of_the_database(address):
    """They are judged like those of Parquet."""
    query = """
        select "SK_ID_CURR"::text as client_id, a.*, false as x from applications a where "SK_ID_CURR" <= 3 order by 1;
    """
    execute(address, 'create table typed as select * from applications where "SK_ID_CURR" <= 4')
    execute(address, 'alter table typed alter "OWN_CAR_AGE" type boolean using true')
    execute(address, 'update typed set "AMT_ANNUITY" = \'NaN\' where "SK_ID_CURR" = 1')
    execute(address, 'update typed set "AMT_ANNUITY" = \'Infinity\' where "SK_ID_CURR" = 2')
    execute(address, 'update typed set "NAME_TYPE_SUITE" = \' n/a \' where "SK_ID_CURR" = 3')
    [part] = open_source(address, PORTFOLIO, query='select * from typed order by "SK_ID_CURR"').parts
    [batch] = part.batches(9, PORTFOLIO)
    assert sorted(map(str, batch.violations)) == [
        "AMT_ANNUITY: must be finite (1 row: 2)",
        "OWN_CAR_AGE: must be a number, but is stored as bool (4 rows: 1, 2, 3, 4)",
    ]
    assert math.isnan(batch.columns.numbers[0, APPLICATION.position["AMT_ANNUITY"]])
    assert batch.columns.levels[2, APPLICATION.position["NAME_TYPE_SUITE"]] is None
    assert named(open_source(address, PORTFOLIO, query=query)) == [[1, 2, 3]]


def test_rows_come_as_the_database_finds_them(address):
    """A fault far behind is met only when its rows are read: nothing holds the whole result."""
    query = """
        select a.*, 1 / (20000 - i) as x from generate_series(1, 30000) as i, applications a where "SK_ID_CURR" = 1
    """
    [part] = open_source(address, PORTFOLIO, query=query).parts
    batches, lengths = part.batches(50_000, PORTFOLIO), list[int]()
    with pytest.raises(FileError, match=r"the database refuses it \(DataError\)$"):
        lengths.extend(map(len, batches))
    assert 0 < sum(lengths) < 20_000


def test_a_reader_may_stop_before_the_end(address):
    [part] = open_source(address, PORTFOLIO, table="applications").parts
    batches = part.batches(2, PORTFOLIO)
    assert len(next(batches)) == 2
    batches.close()
    assert execute(address, "select count(*) from pg_stat_activity where state = 'idle in transaction'") == [(0,)]


def test_colons_and_percent_signs_of_a_query_are_its_own(address):
    query = """select * from applications where "SK_ID_CURR"::text like '%1%' and ':a' <> ' :b' -- :c; 100 %"""
    assert named(open_source(address, PORTFOLIO, query=query)) == [[1, 10]]


@pytest.mark.parametrize(
    ("key", "splits", "found"),
    [
        ("SK_ID_CURR", 3, [[1, 2, 3], [4, 5, 6], [7, 8, 9, 10]]),
        ("SK_ID_CURR", 100, [[i] for i in range(1, 11)]),
        ("AMT_ANNUITY", 2, [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10]]),
        ("DECIDED", 2, [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]),
        ("AT", 2, [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]),
    ],
)
def test_ranges_of_a_key_split_a_query(address, key, splits, found):
    source = open_source(address, PORTFOLIO, table="public.applications", split_by=key, splits=splits)
    assert named(source) == found
    assert len({part.fingerprint for part in source.parts}) == len(found)
    sent = pickle.loads(pickle.dumps(source.parts[-1]))  # noqa: S301 - of our own making
    assert [len(batch) for batch in sent.batches(100, PORTFOLIO)] == [len(found[-1])]


def test_a_query_without_rows_is_one_part_without_rows(address):
    query = "select * from applications where false"
    for options in ({}, {"split_by": "SK_ID_CURR", "splits": 3}):
        assert named(open_source(address, PORTFOLIO, query=query, **options)) == [[]]


def test_what_cannot_split_is_refused(address):
    query = 'select *, nullif("SK_ID_CURR", 3) as some from applications'
    where = shown(address)
    assert refused(address, error=ColumnsError, query=query, split_by="some", splits=2) == (
        f"{where}: some: is missing in 1 rows, so that it cannot split them"
    )
    assert refused(address, error=ColumnsError, query=query, split_by="NAME_CONTRACT_TYPE", splits=2) == (
        f"{where}: NAME_CONTRACT_TYPE: neither numbers nor dates, so that it cannot split the rows"
    )
    assert refused(address, query=query, splits=2) == f"{where}: splits are 1 or more, and need a column to split by"
    said = 'column "none" does not exist'
    assert refused(address, query=query, split_by="none", splits=2) == f"{where}: {said}"


def test_a_query_that_cannot_be_read_is_refused_in_one_line(address):
    where = shown(address)
    assert refused(address, query="selekt 1") == f'{where}: syntax error at or near "1"'
    assert refused(address, table="none") == f'{where}: relation "none" does not exist'
    assert refused(address) == f"{where}: a database needs a query or a table"
    assert refused("a.csv", table="none") == "a.csv: is no database, so that it has no query, table or splits"
    execute(address, "create table short as select * from applications")
    execute(address, 'alter table short drop "AMT_ANNUITY"')
    assert refused(address, table="short", error=ColumnsError) == f"{where}: column missing: AMT_ANNUITY"
    query = 'select *, "AMT_ANNUITY" from applications'
    assert refused(address, query=query, error=ColumnsError) == f"{where}: column repeated: AMT_ANNUITY"
    # The message of the database would quote the value.
    query = """select *, case when "SK_ID_CURR" > 3 then ('secret' || "SK_ID_CURR")::int end as x from applications"""
    assert refused(address, query=query) == f"{where}: the database refuses it (DataError)"


def test_a_query_without_a_name_of_the_applicant_is_refused(address):
    nameless = Portfolio.of({**PORTFOLIO.declared.model_dump(by_alias=True, exclude_unset=True), **NAMELESS})
    with pytest.raises(ColumnsError) as refusal:
        open_source(address, nameless, table="applications")
    assert str(refusal.value) == f"{shown(address)}: has no client_id to name the applicants"


def test_a_database_that_cannot_be_reached_is_refused_without_its_password(address):
    port = free_port()
    said = refused(f"postgresql+psycopg://bob:hunt%2Fer2@127.0.0.1:{port}/db", table="t")
    assert said.startswith(f"postgresql+psycopg://127.0.0.1:{port}/db: connection failed: ")
    assert "\n" not in said
    assert "hunt" not in said
    said = "postgresql+nodriver://host/db: no such database"
    assert refused("postgresql+nodriver://bob:hunter2@host/db", table="t") == said
    said = "postgres://host/db: no such database; write postgresql+psycopg://"
    assert refused("postgres://bob:hunter2@host/db", table="t") == said
    assert refused("mysql+pymysql://host/db", table="t") == "mysql+pymysql://host/db: needs the package pymysql"


def decisions(*names: str) -> pa.Table:
    """A table of decisions about these applicants."""
    return pa.table(
        {"client_id": [*names], "probability": [0.1 + 0.2] * len(names), "score": [600] * len(names)}, DECISIONS
    )


def test_each_part_is_written_once(address):
    sink = DecisionTable.at(address, "once", job="a")
    sink.prepare(DECISIONS)
    assert sink.written() == frozenset()
    assert sink.write(3, [decisions("x", "y"), decisions("z")]) is True
    assert sink.write(3, [decisions("x", "y", "z")]) is False
    assert sink.write(4, []) is True
    assert sink.written() == {3, 4}
    again = pickle.loads(pickle.dumps(DecisionTable.at(address, "once", job="b")))  # noqa: S301 - of our own making
    again.prepare(DECISIONS)
    assert again.written() == frozenset()
    assert again.write(3, [decisions("w")]) is True
    found = execute(address, "select client_id, probability, score from once order by 1")
    assert found == [(name, 0.1 + 0.2, 600) for name in "wxyz"]
    assert execute(address, "select * from once_parts order by 1, 2") == [("a", 3, 3), ("a", 4, 0), ("b", 3, 1)]


def test_a_part_that_fails_on_the_way_leaves_nothing(address):
    sink = DecisionTable.at(address, "failing", job="a")
    sink.prepare(DECISIONS)

    def cut_short() -> Iterator[pa.Table]:
        yield decisions("x")
        raise FileError("a.csv: is damaged")

    with pytest.raises(FileError, match=r"a.csv: is damaged"):
        sink.write(0, cut_short())
    with pytest.raises(FileError, match=r"the database refuses it \(DataError\)$"):
        sink.write(0, [decisions("x"), decisions("nul\0")])
    assert (sink.written(), execute(address, "select * from failing")) == (frozenset(), [])
    assert sink.write(0, [decisions("x")]) is True


def test_two_writers_of_one_part_write_it_once(address):
    sink = DecisionTable.at(address, "twice", job="a")
    sink.prepare(DECISIONS)
    reached, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[pa.Table]:
        reached.set()
        assert go_on.wait(60)
        yield decisions("x")

    told: list[bool] = []
    first = threading.Thread(target=lambda: told.append(sink.write(0, slow())))
    second = threading.Thread(target=lambda: told.append(sink.write(0, [decisions("x")])))
    first.start()
    assert reached.wait(60)
    second.start()
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    while execute(address, waiting) == [(0,)]:
        pass
    go_on.set()
    first.join()
    second.join()
    assert sorted(told) == [False, True]
    assert execute(address, "select client_id from twice") == [("x",)]


def test_many_jobs_may_make_the_table_at_once(address):
    failed: list[BaseException] = []

    def prepare() -> None:
        try:
            DecisionTable.at(address, "made", job="a").prepare(DECISIONS)
        except FileError as error:
            failed.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_table_of_another_shape_is_refused(address):
    execute(address, 'create table shaped (client_id text, probability text, "Score" bigint)')
    with pytest.raises(ColumnsError) as refusal:
        DecisionTable.at(address, "shaped", job="a").prepare(DECISIONS)
    said = "the table shaped has other columns: probability, score, Score"
    assert str(refusal.value) == f"{shown(address)}: {said}"
    execute(address, "create table alike (client_id varchar(64), probability numeric, score integer)")
    DecisionTable.at(address, "alike", job="a").prepare(DECISIONS)


def test_columns_of_any_plain_type_can_be_written(address):
    table = pa.table(
        {
            "text": pa.array(["a", None]).dictionary_encode(),
            "flag": [True, None],
            "day": pa.array([date(2026, 1, 31), None]),
            "at": pa.array([datetime(2026, 1, 31, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
            "nano": pa.array([1, None], pa.timestamp("ns")),
            "small": pa.array([1, None], pa.int8()),
            "nothing": pa.nulls(2),
        }
    )
    sink = DecisionTable.at(address, "public.plain", job="a")
    sink.prepare(table.schema)
    sink.write(0, [table])
    assert execute(address, "select * from plain") == [
        ("a", True, date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC), datetime(1970, 1, 1), 1, None),  # noqa: DTZ001
        (None,) * 7,
    ]
    with pytest.raises(ColumnsError, match=r"x: list<element: int64> has no type in a database"):
        sink.prepare(pa.schema([("x", pa.list_(pa.field("element", pa.int64())))]))


def test_another_database_has_its_parts_once_too(tmp_path: Path):
    address = f"sqlite:///{tmp_path}/decisions.db"
    sink = DecisionTable.at(address, "once", job="a")
    sink.prepare(DECISIONS)
    assert [sink.write(0, [decisions("x", "y")]), sink.write(0, [decisions("x", "y")])] == [True, False]
    assert execute(address, "select client_id from once") == [("x",), ("y",)]
