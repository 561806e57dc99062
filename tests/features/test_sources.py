"""The parts that a batch job's applications are read in."""

from __future__ import annotations

import gzip
import json
import math
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
import s3fs
from pyarrow import csv, parquet

from features.errors import ColumnsError, FileError
from features.portfolio import Portfolio
from features.sources import ApplicationSource, open_source
from features.transformer import concatenate
from jobs.destination import file_system
from tests import buckets
from tests.features.examples import NAMES, bits, read, write_csv, write_parquet
from tests.home_credit import APPLICATION, NAMELESS, PORTFOLIO
from tests.server import free_port

HEADER = ("SK_ID_CURR", *NAMES)


def people(path: Path, first: int, last: int) -> Path:
    """A CSV file of applicants by their numbers."""
    records = [{"SK_ID_CURR": number, "AMT_CREDIT": number} for number in range(first, last + 1)]
    return write_csv(path, *records, header=HEADER)


def people_in_groups(path: Path, first: int, last: int, rows: int) -> Path:
    """A Parquet file of applicants by their numbers, in row groups of some rows."""
    table = csv.read_csv(people(path.with_suffix(".csv"), first, last))
    path.with_suffix(".csv").unlink()
    parquet.write_table(table, path, row_group_size=rows)
    return path


def refused(address: object, error: type[Exception] = FileError) -> str:
    """Why the source is refused."""
    with pytest.raises(error) as refusal:
        open_source(str(address), PORTFOLIO)
    return str(refusal.value)


def named(source: ApplicationSource, rows: int = 2) -> list[list[int]]:
    """The applicants of each part, by the identifier column."""
    found = []
    for part in source.parts:
        batches = part.batches(rows, PORTFOLIO, others=source.identifier.others)
        found.append([name for batch in batches for name in source.identifier.of(part, batch).to_pylist()])
    return found


def test_a_parquet_file_has_parts_of_neighbouring_row_groups(tmp_path):
    path = people_in_groups(tmp_path / "a.parquet", 1, 10, rows=2)
    source = open_source(str(path), PORTFOLIO, part_rows=5)
    assert named(source) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert [part.rows for part in source.parts] == [4, 4, 2]
    assert source.rows == 10
    assert [batch.first_row for part in source.parts for batch in part.batches(3, PORTFOLIO)] == [0, 3, 4, 7, 8]
    whole = concatenate([batch.columns for part in source.parts for batch in part.batches(2, PORTFOLIO)])
    assert bits(whole.numbers) == bits(read(path).numbers)


def test_a_csv_file_is_one_part_whose_rows_are_not_known(tmp_path):
    source = open_source(str(people(tmp_path / "a.csv", 1, 9)), PORTFOLIO, part_rows=5)
    assert [part.rows for part in source.parts] == [None]
    assert source.rows is None
    assert named(source) == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]


def test_a_part_is_small_and_reads_the_same_elsewhere(tmp_path, monkeypatch):
    people_in_groups(tmp_path / "a.parquet", 1, 4, rows=2)
    monkeypatch.chdir(tmp_path)
    source = open_source("a.parquet", PORTFOLIO, part_rows=2)
    assert source.parts[1].name == "a.parquet"
    monkeypatch.chdir("/")
    sent = pickle.dumps(source.parts[1])
    assert len(sent) < 1_000
    [batch] = pickle.loads(sent).batches(9, PORTFOLIO, others=["SK_ID_CURR"])  # noqa: S301
    assert batch.others["SK_ID_CURR"].to_pylist() == [3, 4]


def test_a_part_that_has_changed_is_refused(tmp_path):
    source = open_source(str(people(tmp_path / "a.csv", 1, 2)), PORTFOLIO)
    people(tmp_path / "a.csv", 1, 3)
    with pytest.raises(FileError) as refusal:
        list(source.parts[0].batches(9, PORTFOLIO))
    assert str(refusal.value) == f"{tmp_path / 'a.csv'}: has changed since the job was planned"


def test_an_empty_parquet_file_is_one_part_without_rows(tmp_path):
    path = people_in_groups(tmp_path / "a.parquet", 1, 1, rows=1)
    parquet.write_table(pa.table(parquet.read_table(path)).slice(0, 0), path)
    source = open_source(str(path), PORTFOLIO)
    assert named(source) == [[]]
    assert source.rows == 0


def test_files_of_all_kinds_and_folders_are_read_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "in"
    for name in ("b", "a/2", "a/10", "_temporary", ".cache", "empty"):
        (folder / name).mkdir(parents=True)
    people_in_groups(folder / "b" / "z.parquet", 8, 9, rows=1)
    people(folder / "a" / "2" / "x.csv", 4, 5)
    content = people(folder / "a" / "10" / "x.csv", 1, 3).read_bytes()
    (folder / "a" / "10" / "x.csv").unlink()
    (folder / "a" / "10" / "x.csv.zst").write_bytes(pa.compress(content, "zstd", asbytes=True))
    (folder / "a" / "y.csv.gz").write_bytes(gzip.compress(people(tmp_path / "y.csv", 6, 7).read_bytes()))
    people(folder / "_temporary" / "x.csv", 20, 21)
    people(folder / ".cache" / "x.csv", 20, 21)
    for name in ("a/_SUCCESS", "a/notes.txt", "b/~$x.csv"):
        (folder / name).write_text("x")
    source = open_source(str(folder), PORTFOLIO)
    assert named(source) == [[1, 2, 3], [4, 5], [6, 7], [8, 9]]
    assert source.passed_over == (".cache", "_temporary", "a/_SUCCESS", "a/notes.txt", "b/~$x.csv")
    assert [part.name for part in source.parts][:2] == [f"{folder}/a/10/x.csv.zst", f"{folder}/a/2/x.csv"]
    assert source.types["NAME_CONTRACT_TYPE"] == pa.string()
    assert "AMT_CREDIT" not in source.types


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*/a.csv", [[1], [3], [4]]),
        ("2026-*/*.csv", [[1], [2], [3]]),
        ("2026-*", [[1], [2], [3]]),
        ("**/b.csv", [[2]]),
        ("2026-1[01]/a.csv", [[1], [3]]),
    ],
)
def test_a_pattern_is_read_file_by_file(tmp_path, pattern, found):
    for number, name in enumerate(["2026-10/a.csv", "2026-10/b.csv", "2026-11/a.csv", "other/a.csv"], start=1):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        people(tmp_path / name, number, number)
    assert named(open_source(f"{tmp_path}/{pattern}", PORTFOLIO)) == found


def test_columns_that_folders_name_are_columns(tmp_path):
    """A declared one is read by the declaration, any other is ignored and named."""
    names = tuple(name for name in HEADER if name not in ("CNT_CHILDREN", "NAME_TYPE_SUITE"))
    folders = ["CNT_CHILDREN=2/NAME_TYPE_SUITE=Spouse%2C%20partner/month=2026-11"]
    folders += ["CNT_CHILDREN=__HIVE_DEFAULT_PARTITION__/NAME_TYPE_SUITE=XNA/month=2026-12"]
    for number, folder in enumerate(folders):
        (tmp_path / folder).mkdir(parents=True)
        write_csv(tmp_path / folder / "a.csv", {"SK_ID_CURR": number}, header=names)
    source = open_source(str(tmp_path), PORTFOLIO)
    [one], [other] = (list(part.batches(9, PORTFOLIO, others=["month"])) for part in source.parts)
    children, suite = APPLICATION.position["CNT_CHILDREN"], APPLICATION.position["NAME_TYPE_SUITE"]
    assert one.columns.numbers[0, children] == 2.0
    assert math.isnan(other.columns.numbers[0, children])
    assert [batch.columns.levels[0, suite] for batch in (one, other)] == ["Spouse, partner", "XNA"]
    assert [batch.others["month"].to_pylist() for batch in (one, other)] == [["2026-11"], ["2026-12"]]
    assert source.ignored_columns == ("month",)
    assert "month" in source.header


def test_a_column_of_the_file_counts_and_not_the_folder_of_that_name(tmp_path):
    (tmp_path / "AMT_CREDIT=5").mkdir()
    people(tmp_path / "AMT_CREDIT=5" / "a.csv", 7, 7)
    [part] = open_source(str(tmp_path), PORTFOLIO).parts
    [batch] = part.batches(9, PORTFOLIO)
    assert batch.columns.numbers[0, APPLICATION.position["AMT_CREDIT"]] == 7


@pytest.mark.parametrize(("name", "what"), [("_delta_log", "a Delta Lake table"), (".hoodie", "a Hudi table")])
def test_a_table_with_a_log_is_refused(tmp_path, name, what):
    people(tmp_path / "a.csv", 1, 1)
    (tmp_path / name).mkdir()
    (tmp_path / name / "0.json").write_text("{}")
    assert refused(tmp_path) == f"{tmp_path}: is {what}, whose files alone do not say which rows are current"


def test_files_that_differ_in_the_kind_of_a_declared_column_are_refused(tmp_path):
    write_parquet(tmp_path / "a.parquet", 1, SK_ID_CURR=pa.array([1]))
    write_parquet(tmp_path / "b.parquet", 1, SK_ID_CURR=pa.array([2]), AMT_ANNUITY=pa.array([5], pa.int32()))
    assert named(open_source(str(tmp_path), PORTFOLIO)) == [[1], [2]]
    write_parquet(tmp_path / "c.parquet", 1, SK_ID_CURR=pa.array([3]), AMT_ANNUITY=pa.array(["5"]))
    assert refused(tmp_path, ColumnsError) == (
        f"{tmp_path}/c.parquet: AMT_ANNUITY is stored as text, but as numbers in {tmp_path}/a.parquet"
    )


def test_a_column_without_a_value_may_be_stored_as_anything(tmp_path):
    write_parquet(tmp_path / "a.parquet", 1, SK_ID_CURR=pa.array([1]))
    empty = pa.array([None, math.nan], pa.float64())
    write_parquet(tmp_path / "b.parquet", 2, SK_ID_CURR=pa.array([2, 3]), NAME_TYPE_SUITE=empty)
    assert named(open_source(str(tmp_path), PORTFOLIO)) == [[1], [2, 3]]


def test_a_later_file_without_a_declared_column_is_refused_by_name(tmp_path):
    people(tmp_path / "a.csv", 1, 1)
    write_csv(tmp_path / "b.csv", {}, header=[name for name in HEADER if name != "AMT_ANNUITY"])
    assert refused(tmp_path, ColumnsError) == f"{tmp_path}/b.csv: column missing: AMT_ANNUITY"


def test_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    people(tmp_path / "in" / "a.csv", 1, 1)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    said = "is a link to a folder: name the folder that holds the files"
    assert refused(tmp_path / "in") == f"{tmp_path}/in/again: {said}"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("none.csv", "no such file"),
        ("none/*.csv", "nothing matches"),
        ("memory://none/a.csv", "no such bucket, folder or file"),
        ("memory://none/*.csv", "nothing matches"),
        ("nothing://user:secret@none/a.csv", "cannot be read (ValueError)"),
    ],
)
def test_an_address_without_files_is_refused_in_one_line(tmp_path, monkeypatch, address, said):
    monkeypatch.chdir(tmp_path)
    assert refused(address) == f"{address.replace('user:secret@', '')}: {said}"


def nameless(path: Path, rows: int) -> Path:
    return write_csv(path, *({} for _ in range(rows)))


def test_row_numbers_count_on_from_file_to_file_in_any_order_of_parts(tmp_path):
    portfolio = Portfolio(json.dumps(json.loads(PORTFOLIO.content) | NAMELESS).encode())
    nameless(tmp_path / "a.csv", 3)
    write_parquet(tmp_path / "b.parquet", 3)
    table = parquet.read_table(tmp_path / "b.parquet")
    parquet.write_table(table, tmp_path / "b.parquet", row_group_size=2)
    nameless(tmp_path / "c.csv", 2)
    source = open_source(str(tmp_path), portfolio, part_rows=2)
    assert (source.identifier.name, source.identifier.others) == ("row", ())
    found = {}
    for number, part in reversed([*enumerate(source.parts)]):
        batches = [source.identifier.of(part, batch).to_pylist() for batch in part.batches(2, portfolio)]
        found[number] = batches
    assert found == {0: [[1, 2], [3]], 1: [[4, 5]], 2: [[6]], 3: [[7, 8]]}
    assert [part.rows for part in source.parts] == [3, 2, 1, None]


def long_csv(path: Path, first: int, *, last_line: bytes) -> Path:
    """A file of 9 MB, so that what is wrong with its last line is met only when its rows are read."""
    records = [{"SK_ID_CURR": first + i, "ORGANIZATION_TYPE": "x" * 1_000} for i in range(9_000)]
    lines = write_csv(path, *records, header=HEADER).read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines, last_line]))
    return path


@pytest.mark.parametrize(
    ("last_line", "said"),
    [
        (b"7,8", f"row 9001 has 2 of {len(HEADER)} fields"),
        (b"7" + b"," * (len(HEADER) - 2) + b",\xe9", "line 9002 is not UTF-8 text: save the file as UTF-8"),
    ],
)
@pytest.mark.parametrize("place", ["folder", "memory://applications"])
def test_a_fault_far_behind_is_told_in_one_line_when_it_is_read(tmp_path, last_line, said, place):
    people(tmp_path / "a.csv", 1, 2)
    long_csv(tmp_path / "b.csv", 3, last_line=last_line)
    address = str(tmp_path)
    if place != "folder":
        address, (files, _) = place, file_system(place)
        for name in ("a.csv", "b.csv"):
            files.pipe_file(f"/applications/{name}", (tmp_path / name).read_bytes())
    first, second = open_source(address, PORTFOLIO).parts
    assert [len(batch) for batch in first.batches(9, PORTFOLIO)] == [2]
    batches = second.batches(1_000, PORTFOLIO)
    assert len(next(batches)) == 1_000
    with pytest.raises(FileError) as refusal:
        list(batches)
    assert str(refusal.value) == f"{address}/b.csv: {said}"


def test_a_damaged_page_of_a_parquet_file_is_told_in_one_line_when_it_is_read(tmp_path):
    path = people_in_groups(tmp_path / "a.parquet", 1, 4, rows=2)
    content = bytearray(path.read_bytes())
    place = parquet.read_metadata(path).row_group(1).column(0)
    start = place.dictionary_page_offset or place.data_page_offset
    content[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    path.write_bytes(bytes(content))
    sound, damaged = open_source(str(path), PORTFOLIO, part_rows=2).parts
    assert [len(batch) for batch in sound.batches(9, PORTFOLIO, others=["SK_ID_CURR"])] == [2]
    with pytest.raises(FileError) as refusal:
        list(damaged.batches(9, PORTFOLIO, others=["SK_ID_CURR"]))
    assert str(refusal.value).startswith(f"{path}: is damaged")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of a bucket with applications, on a server of the tests' own."""
    with buckets.running() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {**buckets.ENVIRONMENT, "AWS_ENDPOINT_URL_S3": server}.items():
            patch.setenv(name, value)
        files, _ = file_system("s3://tests")
        files.mkdir("tests")
        yield "s3://tests"


@pytest.mark.slow
def test_a_bucket_is_read_like_a_folder(tmp_path, bucket):
    folder = tmp_path / "in"
    (folder / "month=11").mkdir(parents=True)
    people_in_groups(folder / "month=11" / "a.parquet", 1, 5, rows=2)
    packed = gzip.compress(people(tmp_path / "b.csv", 6, 7).read_bytes())
    (folder / "b.csv.gz").write_bytes(packed)
    (folder / "_SUCCESS").write_text("")
    files, _ = file_system(bucket)
    files.put(f"{folder}/", "tests/in/", recursive=True)
    files.touch("tests/in/marker/")
    near = open_source(str(folder), PORTFOLIO, part_rows=2)
    for address in (f"{bucket}/in", f"{bucket}/in/", f"{bucket}/i*/*"):
        far = open_source(address, PORTFOLIO, part_rows=2)
        assert named(far) == named(near) == [[6, 7], [1, 2], [3, 4], [5]]
    far = open_source(f"{bucket}/in", PORTFOLIO, part_rows=2)
    assert (far.header, far.ignored_columns, far.passed_over) == (near.header, ("month",), ("_SUCCESS",))
    assert [part.name for part in far.parts][:2] == [f"{bucket}/in/b.csv.gz", f"{bucket}/in/month=11/a.parquet"]
    again = open_source(f"{bucket}/in", PORTFOLIO, part_rows=2)
    assert [part.fingerprint for part in again.parts] == [part.fingerprint for part in far.parts]
    files.pipe_file("tests/in/b.csv.gz", gzip.compress(people(tmp_path / "b.csv", 6, 8).read_bytes()))
    with pytest.raises(FileError) as refusal:
        next(far.parts[0].batches(9, PORTFOLIO))
    assert str(refusal.value) == f"{bucket}/in/b.csv.gz: has changed since the job was planned"
    assert named(open_source(f"{bucket}/in/b.csv.gz", PORTFOLIO)) == [[6, 7, 8]]


@pytest.mark.slow
def test_a_folder_of_a_bucket_ends_at_its_name(tmp_path, bucket):
    files, _ = file_system(bucket)
    for number, name in enumerate(["one/a.csv", "one2/a.csv", "one.csv"], start=1):
        files.pipe_file(f"tests/names/{name}", people(tmp_path / "a.csv", number, number).read_bytes())
    assert named(open_source(f"{bucket}/names/one", PORTFOLIO)) == [[1]]
    assert named(open_source(f"{bucket}/names/one*/*.csv", PORTFOLIO)) == [[1], [2]]
    assert named(open_source(f"{bucket}/names/", PORTFOLIO)) == [[3], [1], [2]]


@pytest.mark.slow
def test_a_damaged_file_of_a_bucket_is_refused_like_one_of_a_folder(tmp_path, bucket):
    files, _ = file_system(bucket)
    path = people_in_groups(tmp_path / "a.parquet", 1, 5, rows=2)
    files.pipe_file("tests/damaged/a.parquet", path.read_bytes()[:-20])
    assert refused(f"{bucket}/damaged") == f"{bucket}/damaged/a.parquet: is damaged or not in the format of its suffix"


@pytest.mark.slow
def test_a_bucket_that_cannot_be_had_is_refused_in_one_line(bucket, monkeypatch):
    assert refused("s3://key:se/cret@none/in") == "s3://none/in: cannot be read (ParamValidationError)"
    assert refused("s3://none/in") == "s3://none/in: no such bucket, folder or file"
    assert refused(f"{bucket}/none") == f"{bucket}/none: no such bucket, folder or file"
    # Another test, and another address: s3fs keeps its file systems.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    s3fs.S3FileSystem.clear_instance_cache()
    assert refused(f"{bucket}/in") == f"{bucket}/in: cannot be read (EndpointConnectionError)"
    s3fs.S3FileSystem.clear_instance_cache()


class Denying(BaseHTTPRequestHandler):
    """Answers like S3 where access is denied."""

    def do_GET(self) -> None:
        answer = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_a_bucket_without_permission_is_refused_in_one_line(bucket, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Denying) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        s3fs.S3FileSystem.clear_instance_cache()
        assert refused(f"{bucket}/in") == f"{bucket}/in: access is denied"
        server.shutdown()
        thread.join()
    s3fs.S3FileSystem.clear_instance_cache()
