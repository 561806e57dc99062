"""`python -m scoring batch`: what it says, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bentoml
import pytest

from jobs.errors import SettingsError
from scoring.artefact import Artefact
from scoring.cli import _listed, main, served_name
from tests.features.examples import NAMES, REQUIRED, ROOT, generate
from tests.scoring.jobs import people
from tests.server import unmeasured

_DEADLINE = 600


@pytest.fixture(scope="module")
def model(artefact: Artefact) -> Iterator[str]:
    """The tag of the small model in the model store."""
    tag = f"small_model:1-{artefact.digest[:32]}"
    with bentoml.models.create(tag, metadata={"digest": artefact.digest}) as created:
        artefact.write(Path(created.path) / "artefact")
        for file in (Path(created.path) / "artefact").iterdir():
            file.rename(Path(created.path) / file.name)
        (Path(created.path) / "artefact").rmdir()
    yield tag
    bentoml.models.delete(tag)


def arguments(source: Path, output: Path, model: str) -> list[str]:
    return ["batch", "--input", str(source), "--output", str(output), "--model", model, "--workers", "1"]


def test_it_counts_what_it_rejects_and_does_not_know(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, stated = tmp_path / "in", (*REQUIRED, "NAME_INCOME_TYPE")
    source.mkdir()
    people(source / "a.csv", 1, 2, NAME_INCOME_TYPE="kgjq")
    people(source / "b.csv", 3, AMT_CREDIT=-4711)
    (source / "notes.txt").write_text("kgjq")
    assert main(arguments(source, tmp_path / "out", model)) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"3 applications by {model}: 2 scored, 1 rejected; {tmp_path / 'out'}",
        "  rejected, AMT_CREDIT: must be between 1 and 1000000000: 1",
        "  level that the model did not learn, NAME_INCOME_TYPE: 2, every level that is stated",
        f"  missing in every row: {', '.join([name for name in NAMES if name not in stated][:8])} and 108 more",
        "  not read: notes.txt",
    ]
    assert not re.search("kgjq|4711", said.out + said.err)


def test_the_model_is_that_of_the_service_unless_another_is_named(tmp_path: Path) -> None:
    settings = tmp_path / "serving.yaml"
    settings.write_text("model: mine  # a name\n")
    assert served_name(settings) == "mine"
    settings.write_text("boundary: outermost\n")
    with pytest.raises(SettingsError, match=r"serving\.yaml: model: must name a model of the BentoML store"):
        served_name(settings)


def test_it_fails_where_nothing_could_be_scored_and_the_output_says_why(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = people(tmp_path / "a.csv", 1, 2, AMT_CREDIT=-1), tmp_path / "out"
    assert main(arguments(source, output, model)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {source}: no application could be scored; {output}.unfinished/_quarantine says why"
    )
    assert not output.exists()


@pytest.mark.parametrize(("limit", "code"), [([], 1), (["--max-rejected", "0.6"], 1), (["--max-rejected", "0.7"], 0)])
def test_it_fails_where_more_are_rejected_than_allowed(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: list[str], code: int
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    people(source / "a.csv", 1)
    people(source / "b.csv", 2, 3, AMT_CREDIT=-1)
    assert main([*arguments(source, output, model), *limit]) == code
    share = (limit or ["", "0.5"])[1]
    why = f"{output}.unfinished/_quarantine says why"
    said = f"2 of 3 applications are rejected, more than the share {share} of --max-rejected; {why}"
    assert (f"error: {source}: {said}" in capsys.readouterr().err.splitlines()) is bool(code)
    assert output.exists() is not bool(code)


@pytest.mark.parametrize(
    ("count", "said"), [(1, "a"), (8, "a, b, c, d, e, f, g, h"), (9, "a, b, c, d, e, f, g, h and 1 more")]
)
def test_eight_names_are_listed_and_the_others_counted(count: int, said: str) -> None:
    assert _listed("abcdefghi"[:count]) == said


@pytest.mark.parametrize("share", ["-0.1", "1.1", "nan", "half"])
def test_a_share_is_from_0_to_1(tmp_path: Path, share: str) -> None:
    command = ["batch", "--input", "a.csv", "--output", str(tmp_path / "out"), "--max-rejected", share]
    assert main(command) == 2


@pytest.mark.parametrize("share", ["0", "0.0", "1"])
def test_no_share_and_every_share_are_legal(tmp_path: Path, share: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(tmp_path / "absent.csv")
    assert main(["batch", "--input", source, "--output", str(tmp_path / "out"), "--max-rejected", share]) == 1
    assert "not a share" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--workers", "--limit", "--shards"])
@pytest.mark.parametrize("number", ["0", "-5"])
def test_a_number_is_at_least_1(tmp_path: Path, option: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["batch", "--input", "a.csv", "--output", str(tmp_path / "out"), option, number]
    assert main(command) == 2
    assert capsys.readouterr().err == f"error: Invalid value for '{option}': {number}: must be at least 1\n"


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    people(source / "a.csv", 1, 2)
    people(source / "b.csv", 3, AMT_CREDIT=-4711)
    assert main([*arguments(source, output, model), "--dry-run"]) == 0
    rows = "rows that are not counted yet in 2 parts"
    assert capsys.readouterr().out.splitlines() == [
        f"would score {rows} of {source} by {model}, named by SK_ID_CURR, into {output}",
        "of the first 2 rows, 2 are scored and 0 rejected",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_shards_say_that_they_wait_and_the_last_one_says_what_was_done(
    model: str, artefact: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output, folder = tmp_path / "in", tmp_path / "out", tmp_path / model.replace(":", "/")
    source.mkdir()
    people(source / "a.csv", 1, 2)
    people(source / "b.csv", 3)
    folder.parent.mkdir()
    artefact.write(folder)
    assert main([*arguments(source, output, model), "--shard", "1/2"]) == 0
    assert capsys.readouterr().out == f"shard 1/2 is done; {output}.unfinished waits for other shards\n"
    assert main([*arguments(source, output, model), "--finish"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {output}.unfinished: 1 of 2 parts are not finished"
    assert main([*arguments(source, output, str(folder)), "--shard", "0/2", "--carry", "AMT_CREDIT"]) == 1
    assert "was begun with --carry (), not ('AMT_CREDIT',); name another" in capsys.readouterr().err
    assert main([*arguments(source, output, str(folder)), "--shard", "0/2"]) == 0
    said = f"3 applications by {model}: 3 scored, 0 rejected; {output}"
    assert capsys.readouterr().out.splitlines()[0] == said
    assert main([*arguments(source, output, model), "--finish"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--output", "out", "--output-table", "t"], "--output-table and --work are for an output in a database"),
        (["--output", "out", "--work", "w"], "--output-table and --work are for an output in a database"),
        (
            ["--output", "postgresql+psycopg://h/d", "--work", "w"],
            "an output in a database needs --output-table and --work",
        ),
    ],
)
def test_a_table_and_a_folder_of_work_belong_to_a_database(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "--input", "a.csv", "--model", "nobody:1", *given]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.parametrize(("given", "missing"), [([], "--input"), (["--input", "a.csv"], "--output")])
def test_input_and_output_are_required(given: list[str], missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", *given]) == 2
    assert capsys.readouterr().err == f"error: Missing option '{missing}'.\n"


@pytest.mark.parametrize("tag", ["", "Two Words", "../up"])
def test_what_is_not_a_tag_is_refused(tmp_path: Path, tag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path / "a.csv", tmp_path / "out", tag)) == 1
    assert capsys.readouterr().err == f"error: {tag!r}: not a tag; a tag is name or name:version\n"


@pytest.mark.slow
def test_a_model_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    command = [sys.executable, "-m", "scoring", *arguments(tmp_path / "a.csv", tmp_path / "out", "small:1")]
    home = {**os.environ, "BENTOML_HOME": str(tmp_path / "file" / "home")}
    answer = subprocess.run(command, cwd=ROOT, env=home, check=False, capture_output=True, text=True)
    said = f"error: the BentoML model store cannot be read: {tmp_path / 'file' / 'home'}: Not a directory\n"
    assert (answer.returncode, answer.stderr) == (1, said)


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_one_line_and_leaves_no_half_file(
    model: str, labelled_csv: Path, tmp_path: Path
) -> None:
    """No file may grow beyond a thousand bytes: for who writes it is as if the disk were full."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from scoring.cli import main; sys.exit(main())"
    )
    output = tmp_path / "results" / "out"
    command = [sys.executable, "-B", "-c", script, *arguments(labelled_csv, output, model)]
    answer = subprocess.run(command, cwd=ROOT, env=unmeasured(), check=False, capture_output=True, text=True)
    assert answer.stderr.splitlines()[-1] == f"error: {output}.unfinished: cannot be written (File too large)"
    assert answer.returncode == 1
    assert [path.name for path in output.parent.iterdir()] == ["out.unfinished"]
    assert left(output) == ["_work/job.lock", "_work/plan.json", "_work/shard-0-of-1.lock"]
    assert main(arguments(labelled_csv, output, model)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_line_and_leaves_no_half_file(
    model: str, tmp_path: Path, number: signal.Signals
) -> None:
    source = generate(tmp_path / "data", clients=3000)
    output = tmp_path / "results" / "out"
    command = [sys.executable, "-m", "scoring", *arguments(source, output, model), "--chunk-rows", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_parts(output.parent)
        process.send_signal(number)
        _, said = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 128 + number
    assert said.splitlines() == ["applications ...", f"stopped by {number.name}"]
    assert left(output) == ["_work/job.lock", "_work/plan.json", "_work/shard-0-of-1.lock"]
    assert not output.exists()


def left(output: Path) -> list[str]:
    """The files that an unfinished job has left."""
    folder = output.with_name(f"{output.name}.unfinished")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def wait_for_parts(folder: Path) -> None:
    """Until the job has begun to write."""
    end = time.monotonic() + _DEADLINE
    while not list(folder.glob("out.unfinished/_work/.identifiers-*")):
        assert time.monotonic() < end, "the job does not begin"
        time.sleep(0.01)
