"""`python -m monitoring notify`."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.cli import main
from monitoring.commands.notify import tell_reasons
from monitoring.settings import MonitoringSettings
from tests.monitoring.receiver import receiving
from tests.server import ROOT, free_port


@pytest.fixture
def told(tmp_path: Path) -> list[str]:
    ledger = str(tmp_path / "told.json")
    return ["notify", "--settings", str(ROOT / "configs" / "monitoring.yaml"), "--ledger", ledger, "--name", "feed"]


def test_an_alarm_is_told_once_and_its_end_too(monkeypatch, capsys, told):
    with receiving() as receiver:
        monkeypatch.setenv("MONITORING_WEBHOOK_URL", f"{receiver.url}/secret")
        for words in (["--summary", "late"], ["--summary", "later"], ["--summary", "there", "--resolved"]):
            assert main([*told, *words]) == 0
    assert capsys.readouterr().out == "feed: sent\nfeed: known\nfeed: resolved\n"
    assert [posted.body["text"] for posted in receiver.posted] == ["[FIRING] feed: late", "[RESOLVED] feed: there"]


def test_without_an_address_it_says_so(monkeypatch, capsys, told):
    monkeypatch.delenv("MONITORING_WEBHOOK_URL", raising=False)
    assert main([*told, "--summary", "late"]) == 1
    assert capsys.readouterr().err == "error: MONITORING_WEBHOOK_URL is not set: nobody to tell\n"


def test_the_address_is_never_shown(monkeypatch, capsys, told, tmp_path):
    settings = tmp_path / "monitoring.yaml"
    written = (ROOT / "configs" / "monitoring.yaml").read_text()
    settings.write_text(written.replace("first_pause_seconds: 1 ", "first_pause_seconds: 0 ").replace(
        "longest_pause_seconds: 30", "longest_pause_seconds: 0"
    ))  # fmt: skip
    monkeypatch.setenv("MONITORING_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}/secret")
    assert main([*told, "--settings", str(settings), "--summary", "late"]) == 1
    assert capsys.readouterr() == (
        "", "error: the receiver did not take the message in 5 attempts: ConnectionRefusedError\n",
    )  # fmt: skip
    assert not (tmp_path / "told.json").exists()


def test_a_check_tells_its_reasons_and_later_that_there_are_none(monkeypatch, tmp_path):
    settings = MonitoringSettings.load(ROOT / "configs" / "monitoring.yaml").notification
    with receiving() as receiver:
        monkeypatch.setenv("MONITORING_WEBHOOK_URL", receiver.url)
        for reasons in (("major drift of 2 features", "the score has drifted"), ()):
            tell_reasons("drift", reasons, "0123456789abcdef", settings, tmp_path / "told.json")
    assert [posted.body["text"] for posted in receiver.posted] == [
        "[FIRING] drift: major drift of 2 features; the score has drifted",
        "[RESOLVED] drift: no alarm",
    ]
    assert {"title": "model_digest", "value": "0123456789ab", "short": True} in (
        receiver.posted[0].body["attachments"][0]["fields"]
    )
