"""Who decided when: the history of a registered model, and an export in which no line can be changed unnoticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from decision_log.checkpoints import signed_note
from scoring.store import load_artefact, private_key, public_key
from tests.decision_log.logs import KeyPair
from tests.home_credit import PORTFOLIO
from tests.training.contests import Contest
from tests.training.contests import contest as make_contest
from training.cli import main
from training.dataset import Dataset, load_dataset
from training.errors import GateError, RegistryError
from training.registry.audit import AuditEvent, EventKind, champion_lines, exported, fault, history
from training.registry.promotion import rollback
from training.registry.registry import record_judgement, versions
from training.run import Delivered
from training.settings import TrainingSettings

NOW = datetime(2026, 5, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return replace(load_dataset(generated, PORTFOLIO), source="generated: application_train.csv")


@pytest.fixture(scope="module")
def contest(dataset: Dataset, delivered: Delivered, settings: TrainingSettings) -> Contest:
    """Version 1 was promoted by ada, version 3 refused, version 2 promoted by ben, who took it back."""
    made = make_contest(dataset, delivered.trained, settings, "audited_model")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CREDIT_SCORING_ACTOR", "ada")
        made.promote(made.first)
        with pytest.raises(GateError):
            made.promote(made.bad)
        patched.setenv("CREDIT_SCORING_ACTOR", "ben")
        made.promote(made.second)
        rollback(made.name, datetime.now(UTC))
    return made


@pytest.fixture
def alterable(contest: Contest) -> Iterator[Contest]:
    """The same, whose tags are put back."""
    client, name = MlflowClient(), contest.name
    whole = dict(client.get_registered_model(name).tags)
    each = {str(version.version): dict(version.tags) for version in versions(name)}
    yield contest
    for key, value in whole.items():
        client.set_registered_model_tag(name, key, value)
    for version in versions(name):
        for key in version.tags.keys() - each[str(version.version)].keys():
            client.delete_model_version_tag(name, str(version.version), key)
        for key, value in each[str(version.version)].items():
            client.set_model_version_tag(name, str(version.version), key, value)


@pytest.fixture
def words(contest: Contest, tmp_path: Path) -> list[str]:
    """The command, with the settings of the contest."""
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(contest.settings.model_dump(mode="json")))
    return ["audit", "--settings", str(path)]


def test_the_history_tells_who_did_what_and_in_which_order(contest: Contest) -> None:
    events = history(contest.name)
    told = [(str(event.event), event.version, event.actor) for event in events if event.event != EventKind.REGISTERED]
    assert told == [
        ("judged", "1", "ada"),
        ("promoted", "1", "ada"),
        ("refused", "3", "ada"),
        ("judged", "2", "ben"),
        ("promoted", "2", "ben"),
        ("restored", "1", "ben"),
    ]
    assert [event.version for event in events if event.event == EventKind.REGISTERED] == ["1", "2", "3"]
    artefact = load_artefact(contest.first.tag)[2]
    assert {(event.digest, event.policy) for event in events if event.version == "1"} == {
        (artefact.digest, artefact.policy_version)
    }
    refused = next(event for event in events if event.event == EventKind.REFUSED)
    assert refused.champion == "1"
    assert "AUC, lower end" in [gate["name"] for gate in refused.gates if not gate["passed"]]


def test_the_champion_at_a_moment_is_told_with_its_gates(contest: Contest) -> None:
    events = history(contest.name)
    promoted, again, restored = (
        datetime.fromisoformat(event.at) for event in events if event.event in (EventKind.PROMOTED, EventKind.RESTORED)
    )
    first = list(champion_lines(contest.name, events, again - timedelta(microseconds=1)))
    assert first[0].endswith(": audited_model version 1")
    assert first[1] == f"digest {contest.first.digest}"
    assert first[3] == f"promoted {promoted:%Y-%m-%dT%H:%M:%S}Z by ada"
    assert first[4] == f"until {again:%Y-%m-%dT%H:%M:%S}Z, when version 2 was promoted"
    assert first[5].endswith(", against no champion:")
    assert first[6].split()[:3] == ["AUC,", "lower", "end"]
    assert "champion's" not in "".join(first)
    second = list(champion_lines(contest.name, events, again))
    assert (second[0].split()[-1], second[3].split()[-1]) == ("2", "ben")
    assert second[5].endswith(", against version 1:")
    assert "champion's" in "".join(second)
    third = list(champion_lines(contest.name, events, restored + timedelta(days=1)))
    assert (third[0].split()[-1], third[3].split()[0]) == ("1", "restored")
    assert not any(line.startswith("until") for line in third)
    with pytest.raises(RegistryError, match=r"^audited_model: there was no champion at 2020-01-01T00:00:00Z$"):
        list(champion_lines(contest.name, events, datetime(2020, 1, 1, tzinfo=UTC)))


def test_a_history_without_actors_and_times_of_an_older_release_is_told_as_it_is(alterable: Contest) -> None:
    contest = alterable
    client = MlflowClient()
    for key in client.get_registered_model(contest.name).tags:
        if key.startswith("change."):
            client.delete_registered_model_tag(contest.name, key)
    for version in versions(contest.name):
        for key in version.tags:
            if key.startswith("judged."):
                client.delete_model_version_tag(contest.name, str(version.version), key)
    events = history(contest.name)
    assert {event.actor for event in events if event.event != EventKind.REGISTERED} == {None}
    refused = next(event for event in events if event.event == EventKind.REFUSED)
    registered = next(event for event in events if (event.version, event.event) == ("3", EventKind.REGISTERED))
    assert refused.at == registered.at
    told = list(champion_lines(contest.name, events, datetime.now(UTC)))
    assert told[3].endswith("by nobody that is recorded")


def test_nothing_is_told_of_a_model_that_was_never_registered(contest: Contest) -> None:
    with pytest.raises(RegistryError, match=r"^nobody: nothing is registered$"):
        history("nobody")


def test_a_judgement_that_somebody_else_wrote_is_an_error(alterable: Contest) -> None:
    contest = alterable
    client = MlflowClient()
    client.set_model_version_tag(contest.name, "2", "judged.2026-01-01T00:00:00.000000Z", "[]")
    with pytest.raises(RegistryError, match="audited_model 2: its gates are not as a judgement wrote them"):
        history(contest.name)


def test_the_command_lists_exports_and_verifies(
    contest: Contest, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, output = KeyPair(tmp_path / "keys"), tmp_path / "audit.jsonl"
    assert main(words) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[-1].endswith("version 1 restored by ben")
    assert any("version 3 refused by ada: misses AUC, lower end; " in line for line in listed)
    assert main([*words, "--at", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "--export", str(output),
                 "--key", str(keys.private)]) == 0  # fmt: skip
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"{len(listed)} events of audited_model: {output}"
    header, *events, note = map(json.loads, output.read_text().splitlines())
    assert (header["model"], header["events"], len(events), list(note)) == (
        contest.name,
        len(listed),
        len(listed),
        ["note"],
    )
    verified = [*words, "--verify", str(output), "--public"]
    assert main([*verified, str(keys.public)]) == 0
    assert capsys.readouterr().out == f"{output}: {len(listed)} events, each as it was signed\n"
    assert main([*verified, str(keys.other.public)]) == 1
    assert "is not signed by a key that was given" in capsys.readouterr().err


def test_wrong_usage_is_one_line(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--verify", "x"]) == 2
    assert capsys.readouterr().err == "error: --verify and --public belong together\n"
    assert main([*words, "--export", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == "error: an export is signed: name the private key by --key or RECORD_KEY_FILE\n"
    keys = KeyPair(tmp_path / "keys")
    assert main([*words, "--verify", str(tmp_path / "none"), "--public", str(keys.public)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: cannot be read (No such file or directory)\n"


EVENTS = [
    AuditEvent(f"2026-05-0{day}T00:00:00.000000Z", EventKind.PROMOTED, str(day), "ada", "d" * 64, "p1")
    for day in range(1, 5)
]


def dropped(lines: list[bytes]) -> None:
    del lines[2]


def swapped(lines: list[bytes]) -> None:
    lines[2], lines[3] = lines[3], lines[2]


def changed(lines: list[bytes]) -> None:
    lines[2] = lines[2].replace(b'"actor":"ada"', b'"actor":"eve"')


def last_changed(lines: list[bytes]) -> None:
    lines[4] = lines[4].replace(b'"actor":"ada"', b'"actor":"eve"')


def cut(lines: list[bytes]) -> None:
    del lines[-1]


def last_dropped(lines: list[bytes]) -> None:
    del lines[4]


def doubled(lines: list[bytes]) -> None:
    lines.insert(2, lines[2])


def torn(lines: list[bytes]) -> None:
    lines[3] = lines[3][:20] + b"\n"


def of_another_model(lines: list[bytes]) -> None:
    lines[0] = lines[0].replace(b'"my model"', b'"no model"')


def empty(lines: list[bytes]) -> None:
    lines.clear()


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (dropped, "line 3 has the number 3, not 2: lines are missing or moved"),
        (swapped, "line 3 has the number 3, not 2: lines are missing or moved"),
        (doubled, "line 4 has the number 2, not 3: lines are missing or moved"),
        (changed, "line 4 does not follow from line 3: one of the two was changed"),
        (of_another_model, "line 2 does not follow from line 1: one of the two was changed"),
        (last_changed, "line 5 is not the one that was signed as the last"),
        (last_dropped, "line 4 is not the one that was signed as the last"),
        (cut, "the last line has no signed note: the end is missing"),
        (torn, "line 4 is no line of an audit"),
        (empty, "the last line has no signed note: the end is missing"),
    ],
)
def test_an_altered_export_is_found(alter: Callable[[list[bytes]], None], said: str, tmp_path: Path) -> None:
    keys = KeyPair(tmp_path)
    content = exported("my model", EVENTS, private_key(keys.private), NOW)
    lines = content.splitlines(keepends=True)
    assert fault(content, [public_key(keys.public)]) is None
    alter(lines)
    assert fault(b"".join(lines), [public_key(keys.public)]) == said


def test_every_flipped_bit_of_an_event_is_found(tmp_path: Path) -> None:
    keys = KeyPair(tmp_path)
    content = bytearray(exported("my model", EVENTS, private_key(keys.private), NOW))
    end = content.rindex(b'{"note"')
    for place in range(0, end, 7):
        content[place] ^= 1
        assert fault(bytes(content), [public_key(keys.public)]) is not None
        content[place] ^= 1
    assert fault(bytes(content), [public_key(keys.public)]) is None


def test_an_export_that_was_chained_anew_needs_the_key(tmp_path: Path) -> None:
    keys, stranger = KeyPair(tmp_path), KeyPair(tmp_path).other
    forged = exported("my model", EVENTS[:3], private_key(stranger.private), NOW)
    assert fault(forged, [public_key(keys.public)]) == (
        "the note in the last line is not signed by a key that was given"
    )
    # Nothing unsigned may stand beside the note.
    *before, last = exported("my model", EVENTS, private_key(keys.private), NOW).splitlines(keepends=True)
    beside = json.dumps({**json.loads(last), "approved_by": "somebody"}).encode()
    assert fault(b"".join([*before, beside]), [public_key(keys.public)]) == (
        "the last line has no signed note: the end is missing"
    )
    # A true note of another text does not pass for one of an audit.
    lines = exported("my model", EVENTS, private_key(keys.private), NOW).splitlines(keepends=True)
    note = signed_note(b"credit-scoring-audit/my%20model\n5\nabc\n", private_key(keys.private)).decode()
    lines[-1] = json.dumps({"note": note}).encode()
    assert fault(b"".join(lines), [public_key(keys.public)]) == "line 5 is not the one that was signed as the last"


def test_a_judgement_keeps_every_figure(alterable: Contest) -> None:
    contest = alterable
    gates = [{"name": "AUC", "figure": "0.7", "limit": "at least 0.6", "passed": True, "judged": True}]
    record_judgement(contest.bad, gates, None, NOW)
    events = [event for event in history(contest.name) if event.at == "2026-05-03T00:00:00.000000Z"]
    assert [(event.event, event.version, event.gates) for event in events] == [(EventKind.JUDGED, "3", tuple(gates))]
