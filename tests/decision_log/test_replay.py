"""Recorded decisions are computed again, bit for bit; whatever differs is counted by field and named by request."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import nextafter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from decision_log import replay as module
from decision_log.cli import replay as command
from decision_log.closing import close
from decision_log.errors import SourceError
from decision_log.format import Header
from decision_log.reader import DecisionLogReader
from decision_log.replay import DifferentDecision, Replayed, UnplayedModel, replay
from decision_log.segments import Listing
from features.transformer import Columns
from jobs.commandline import in_processes, run_command
from jobs.errors import ProcessError
from scoring.artefact import Artefact
from scoring.policy import DecisionKind
from scoring.reasons import ReasonMethod, ReasonReference
from scoring.scorer import Scorer, with_conformance
from scoring.store import StoredModel
from tests.decision_log.models import kept
from tests.monitoring.recording import Worker
from tests.monitoring.test_closing import LATER, SETTINGS, first_format

Matrix = NDArray[np.float64]
ROWS = 60


@pytest.fixture(scope="module")
def model(artefact: Artefact) -> Iterator[StoredModel]:
    """The small model, in the store."""
    with kept("replayed", artefact) as stored:
        yield stored


@pytest.fixture(scope="module")
def matrix(scorer: Scorer, applications: Columns) -> Matrix:
    """Vectors of real applications; the first is declined, one has an unknown level, and one too little known."""
    whole = scorer.transformer.transform(applications)
    order = np.argsort(-scorer.model.margins(whole))
    found = whole[np.concatenate([order[:20], order[20 - ROWS :]])]
    found[ROWS - 1, scorer.transformer.categorical[0]] = scorer.transformer.largest_codes[0]
    found[ROWS - 2, scorer.features.index("AMT_ANNUITY")] = np.nan
    return found


@pytest.fixture
def log(model: StoredModel, matrix: Matrix, tmp_path: Path) -> Path:
    """A log of 60 decisions in one segment."""
    record(model, matrix, tmp_path, "log")
    return tmp_path / "log"


def record(model: StoredModel, matrix: Matrix, folder: Path, name: str) -> None:
    worker = Worker(model, folder / f"counts-{model.version}", folder / name, now=LATER.timestamp())
    worker.record(len(matrix), matrix)
    worker.recorder.close()


def segment(log: Path) -> Path:
    (path,) = Listing.of(log).open
    return path


def closed(log: Path) -> Path:
    close(log, SETTINGS, LATER)
    (path,) = Listing.of(log).closed
    return path


def replayed(log: Path) -> Replayed:
    return replay(DecisionLogReader(log))


def edit(log: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the header and the lines of an open segment as values."""
    path = segment(log)
    lines = [json.loads(line) for line in path.read_bytes().rstrip(b"\0").splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def test_the_decisions_that_are_replayed_here_are_of_all_kinds(scorer: Scorer, matrix: Matrix) -> None:
    scores = scorer.score_matrix(matrix)
    assert scores.decision[0] == DecisionKind.DECLINE
    assert scores.reasons[0]
    assert any(scores.unknown.tolist())
    assert scores.withheld[ROWS - 2]
    assert {*scores.decision.tolist()} == {*DecisionKind}


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_nobody_has_touched_is_computed_again_bit_for_bit(log: Path, is_closed: bool) -> None:
    if is_closed:
        closed(log)
    assert replayed(log) == Replayed(decisions=ROWS)


def later(value: float) -> float:
    return nextafter(value, 2.0)


DIFFERENCES: dict[str, Callable[[Any], Any]] = {
    "margin": later,
    "probability": lambda value: nextafter(value, 0.0),
    "prediction": lambda value: 1 - value,
    "decision": lambda value: "refer" if value == "approve" else "approve",
    "risk_level": lambda value: "HIGH" if value == "LOW" else "LOW",
    "missing": lambda value: value + 1,
    "unknown": lambda value: value + 1,
    "withheld": lambda value: not value,
    "reasons": lambda value: f"{value} X99".strip(),
}


@pytest.mark.parametrize("field", DIFFERENCES)
def test_one_planted_difference_is_found_in_an_open_segment(log: Path, field: str) -> None:
    edit(log, lambda lines: lines[3].update({field: DIFFERENCES[field](lines[3][field])}))
    found = replayed(log)
    assert (found.different, +found.fields) == (1, Counter({field: 1}))
    assert found.first == [DifferentDecision("request-0", 2, (field,))]
    assert not found.proven


@pytest.mark.parametrize("field", [*DIFFERENCES, "digest", "policy"])
def test_one_planted_difference_is_found_in_a_closed_segment(log: Path, field: str) -> None:
    path = closed(log)
    table = parquet.read_table(path)
    values = table[field].to_pylist()
    values[7] = DIFFERENCES.get(field, lambda _: "f" * 16)(values[7])
    at = table.schema.get_field_index(field)
    kind = table.schema.field(at)
    parquet.write_table(table.set_column(at, kind, pa.array(values, kind.type)), path)
    found = replayed(log)
    assert (found.different, +found.fields) == (1, Counter({field: 1}))
    assert found.first == [DifferentDecision("request-0", 7, (field,))]


def test_a_vector_that_was_changed_gives_another_margin(log: Path) -> None:
    def swap(lines: list[dict[str, Any]]) -> None:
        lines[1]["vector"], lines[60]["vector"] = lines[60]["vector"], lines[1]["vector"]

    edit(log, swap)
    found = replayed(log)
    assert found.different == 2
    assert found.fields["margin"] == found.fields["probability"] == 2


def test_only_the_first_ten_differences_are_named_and_all_are_counted(log: Path) -> None:
    edit(log, lambda lines: [line.update(margin=later(line["margin"])) for line in lines[5:]])
    found = replayed(log)
    assert (found.different, +found.fields) == (56, Counter(margin=56))
    assert found.first == [DifferentDecision("request-0", row, ("margin",)) for row in range(4, 14)]


def test_a_version_that_is_not_in_the_store_is_named(small: StoredModel, matrix: Matrix, tmp_path: Path) -> None:
    record(small, matrix, tmp_path, "log")
    found = replayed(tmp_path / "log")
    tag = f"small:{small.version}"
    reason = f"{tag}: not in the BentoML model store; `python -m training run` puts it there"
    assert found == Replayed(decisions=ROWS, unplayed=Counter({UnplayedModel(tag, reason): ROWS}))
    assert not found.proven


def test_the_command_fails_where_no_decision_can_be_replayed(
    small: StoredModel, matrix: Matrix, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(small, matrix, tmp_path, "log")
    assert run_command(command, ["--log", str(tmp_path / "log")], program="replay") == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"0 of {ROWS} decisions replayed; 0 differ"
    assert said.err.splitlines()[-1] == f"error: {tmp_path}/log: no decision can be replayed"


def test_a_version_whose_digest_is_another_is_not_used(log: Path, model: StoredModel) -> None:
    def alter(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["digest"] = "0" * 64

    edit(log, alter)
    unplayed = UnplayedModel(f"replayed:{model.version}", "the store has it with another digest than the recorded one")
    assert replayed(log).unplayed == Counter({unplayed: ROWS})


def test_each_of_several_models_replays_its_own(
    log: Path, artefact: Artefact, small: StoredModel, matrix: Matrix, tmp_path: Path
) -> None:
    policy = replace(artefact.policy, cutoff=0.05, refer_from=0.04, refer_to=0.06)
    with kept("replayed", with_conformance(replace(artefact, policy=policy)), version="2") as second:
        record(second, matrix[:20], tmp_path, "log")
        record(small, matrix[:7], tmp_path, "log")
        found = replayed(log)
    assert (found.decisions, found.replayed, found.different) == (ROWS + 27, ROWS + 20, 0)
    assert [(model.tag, count) for model, count in found.unplayed.items()] == [(f"small:{small.version}", 7)]
    assert found.proven


@pytest.mark.parametrize("is_closed", [False, True])
def test_records_of_the_first_format_replay_what_they_hold(log: Path, is_closed: bool) -> None:
    path = segment(log)
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    declined = sum(b'"decision":"decline"' in line for line in path.read_bytes().splitlines())
    first_format(path)
    edit(log, lambda lines: [line.pop(name) for line in lines[1:4] for name in ("missing", "unknown", "withheld")])
    edit(log, lambda lines: lines[9].update(margin=later(lines[9]["margin"])))
    if is_closed:
        closed(log)
    found = replayed(log)
    assert (found.different, +found.fields) == (1, Counter(margin=1))
    assert (found.without_reasons, found.other_reasons) == (declined, 0)


def test_a_closed_segment_that_lacks_newer_columns_and_its_header_replays(log: Path) -> None:
    first_format_bare(log)
    path = closed(log)
    table = parquet.read_table(path).drop_columns(["reasons", "policy", "explained_by", "withheld", "line"])
    metadata = {name: value for name, value in (table.schema.metadata or {}).items() if name != b"header"}
    parquet.write_table(table.replace_schema_metadata(metadata), path)
    found = replayed(log)
    assert (found.replayed, found.different) == (ROWS, 0)


def first_format_bare(log: Path) -> None:
    path = segment(log)
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    first_format(path)


def test_reasons_of_another_reference_group_are_not_compared(log: Path) -> None:
    def alter(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["explained_by"] = "interventional:000000000000"
        for line in lines[1:]:
            line["reasons"] = "X1" if line["decision"] == "decline" else ""

    edit(log, alter)
    found = replayed(log)
    declined = sum(b'"decision":"decline"' in line for line in segment(log).read_bytes().splitlines())
    assert declined > 0
    assert (found.different, found.other_reasons) == (0, declined)
    assert f"note: reasons are of another reference group: {declined} declines are not comparable" in found.lines()


def test_a_service_that_keeps_reasons_to_itself_says_so_in_its_header(model: StoredModel, log: Path) -> None:
    header = Header.of(model, with_reasons=False)
    assert header.explained_by == ""

    def alter(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["explained_by"] = ""
        for line in lines[1:]:
            line["reasons"] = ""

    edit(log, alter)
    found = replayed(log)
    assert found.different == 0
    assert found.without_reasons > 0
    edit(log, lambda lines: lines[1].update(reasons="X1"))
    assert +replayed(log).fields == Counter(reasons=1)


def test_decisions_of_a_model_with_path_dependent_reasons_replay(
    artefact: Artefact, matrix: Matrix, tmp_path: Path
) -> None:
    other = with_conformance(replace(artefact, reasons=ReasonReference(ReasonMethod.PATH_DEPENDENT)))
    with kept("replayed", other, version="3") as stored:
        record(stored, matrix, tmp_path, "log")
        assert replayed(tmp_path / "log") == Replayed(decisions=ROWS)


def test_decisions_of_a_model_without_reasons_replay(artefact: Artefact, matrix: Matrix, tmp_path: Path) -> None:
    with kept("replayed", with_conformance(replace(artefact, reasons=None)), version="4") as stored:
        record(stored, matrix, tmp_path, "log")
        found = replayed(tmp_path / "log")
    assert (found.replayed, found.different) == (ROWS, 0)


def test_several_processes_find_what_one_does(
    log: Path, model: StoredModel, matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(log, lambda lines: lines[4].update(margin=later(lines[4]["margin"])))
    record(model, matrix[:9], tmp_path, "log")
    (log / "closed" / "foreign").write_text("x")
    alone, remarks = replayed(log), DecisionLogReader(log)
    monkeypatch.setattr(module, "_FEW_BYTES", 0)
    assert replay(remarks) == alone
    assert alone.different == 1
    assert remarks.passed_over == {log / "closed" / "foreign": "it is no segment of a decision log"}


def killed(number: int) -> int:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_is_killed_is_told_in_one_line() -> None:
    with pytest.raises(ProcessError, match="a process of this command was killed; it may have lacked memory"):
        list(in_processes(killed, [1, 2]))


def test_a_period_chooses_what_is_replayed(log: Path) -> None:
    assert replay(DecisionLogReader(log, until=LATER.replace(year=2100))).replayed == ROWS
    with pytest.raises(SourceError, match="no decision of this time"):
        replay(DecisionLogReader(log, since=LATER.replace(year=2100)))


def test_the_command_tells_what_differs_and_never_a_value(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--log", str(log), "--json", str(tmp_path / "found.json")]
    assert run_command(command, words, program="replay") == 0
    assert capsys.readouterr().out == f"{ROWS} of {ROWS} decisions replayed; 0 differ\n"
    edit(log, lambda lines: lines[3].update(margin=later(lines[3]["margin"]), missing=lines[3]["missing"] + 1))
    assert run_command(command, words, program="replay") == 3
    assert capsys.readouterr().out.splitlines() == [
        "differs: request-0 2: margin, missing",
        "margin differs in 1 decisions",
        "missing differs in 1 decisions",
        f"{ROWS} of {ROWS} decisions replayed; 1 differ",
    ]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["first"] == [{"request_id": "request-0", "index": 2, "fields": ["margin", "missing"]}]
    assert (found["replayed"], found["different"], found["fields"]["margin"]) == (ROWS, 1, 1)


def test_wrong_usage_and_a_folder_without_a_log_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(command, [], program="replay") == 2
    assert capsys.readouterr().err == "error: Missing option '--log'.\n"
    assert run_command(command, ["--log", str(tmp_path)], program="replay") == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {tmp_path}: no decision log"
