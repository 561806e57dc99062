"""The receiver of webhooks: what it accepts, what it does, and what a kill leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.observability.files import rendered
from deploy.observability.settings import AlertingSettings, Observed
from tests.deploy.observability.daemons import alertmanager
from tests.server import ROOT, free_port, unmeasured
from tests.skipped import needs
from training.cli import main
from training.errors import TrainingError
from training.receiver import Inbox, Receiver, listening, token_in
from training.settings import TrainingSettings

ACTIONS = {"Drift": "retrain", "Failing": "halt"}
_DEADLINE = 120


def notification(*alerts: str, status: str = "firing", version: str = "4") -> dict[str, Any]:
    """What Alertmanager 0.25 posts, without what is passed over."""
    listed = [{"status": status, "labels": {"alertname": name, "job": "credit-scoring"}} for name in alerts]
    return {"version": version, "groupKey": "{}:{job}", "status": status, "receiver": "warning", "alerts": listed}


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receiver(tmp_path: Path, clock: Clock) -> Receiver:
    inbox = Inbox(tmp_path / "inbox", timedelta(days=7), clock)
    return Receiver(ACTIONS, inbox, [sys.executable, "-c", "raise SystemExit(0)"], {}, tmp_path / "halt")  # type: ignore[arg-type]


@pytest.fixture
def url(receiver: Receiver) -> Iterator[str]:
    with listening(receiver, "127.0.0.1", 0, None) as address:
        yield address


def post(url: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url, content=content, headers=headers, timeout=_DEADLINE)


def test_an_alert_that_the_settings_name_waits_for_its_retraining(receiver: Receiver, url: str) -> None:
    answer = post(f"{url}/warning", notification("Drift", "Other"))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1})
    waiting = receiver.inbox.first()
    assert waiting is not None
    assert waiting.read_text() == "Drift\n"


def test_a_repetition_is_passed_over_and_an_ended_alert_may_begin_anew(receiver: Receiver, url: str) -> None:
    accepted = []
    for body in (
        notification("Drift"),
        notification("Drift"),
        notification("Drift", status="resolved"),
        notification("Drift"),
    ):
        accepted.append(post(url, body).json()["accepted"])
        while (waiting := receiver.inbox.first()) is not None:
            receiver.inbox.finish(waiting)
    assert accepted == [1, 0, 0, 1]


def test_an_alert_that_waits_is_not_taken_twice(receiver: Receiver, url: str) -> None:
    assert [post(url, notification("Drift")).json()["accepted"] for _ in range(2)] == [1, 0]
    assert receiver.inbox.waiting() == 1


def test_a_repetition_after_the_cooldown_counts(receiver: Receiver, clock: Clock) -> None:
    receiver.inbox.add("Drift", done=True)
    clock.now += timedelta(days=7) - timedelta(seconds=1)
    assert not receiver.inbox.is_new("Drift")
    clock.now += timedelta(seconds=1)
    assert receiver.inbox.is_new("Drift")


def test_a_halt_is_written_before_the_answer_and_its_first_reason_stays(receiver: Receiver, url: str) -> None:
    assert receiver.halt is not None
    post(url, notification("Failing"))
    assert receiver.halt.read_text() == "alert Failing at 2026-01-02T00:00:00Z\n"
    post(url, notification("Failing", status="resolved"))
    post(url, notification("Failing"))
    assert receiver.halt.read_text() == "alert Failing at 2026-01-02T00:00:00Z\n"
    assert receiver.inbox.first() is None


def test_a_halt_that_cannot_be_written_is_asked_for_again(receiver: Receiver, url: str, tmp_path: Path) -> None:
    receiver.halt = tmp_path / "missing" / "halt"
    assert post(url, notification("Failing")).status_code == 500
    receiver.halt.parent.mkdir()
    assert post(url, notification("Failing")).json() == {"accepted": 1}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b"\xff", 400),
        (notification("Drift", version="3"), 400),
        (notification("Drift", status="odd"), 400),
        ({"version": "4", "status": "firing"}, 400),
        (b'{"version": "4", "status": "firing", "alerts": [{"status": "firing", "labels": {"alertname": 1}}]}', 400),
        (b" " * ((1 << 20) + 1), 413),
    ],
)
def test_what_is_no_notification_is_refused_and_changes_nothing(
    receiver: Receiver, url: str, body: Any, status: int
) -> None:
    assert post(url, body).status_code == status
    assert receiver.inbox.waiting() == 0


def test_a_body_of_unknown_length_is_refused(url: str) -> None:
    assert httpx.post(url, content=iter([b"{}"]), timeout=_DEADLINE).status_code == 411


def test_probes_and_figures(receiver: Receiver, url: str) -> None:
    post(url, notification("Drift", "Drift", "Other"))
    assert (httpx.get(f"{url}/livez").status_code, httpx.get(f"{url}/other").status_code) == (200, 404)
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert 'credit_scoring_receiver_alerts_total{result="accepted"} 1.0' in lines
    assert 'credit_scoring_receiver_alerts_total{result="repeated"} 1.0' in lines
    assert 'credit_scoring_receiver_alerts_total{result="not named"} 1.0' in lines
    assert f"credit_scoring_receiver_waiting {receiver.inbox.waiting():.1f}" in lines


_WRONG: tuple[dict[str, str], ...] = ({}, {"Authorization": "Bearer x"}, {"Authorization": "hunter2"})


def test_a_token_is_asked_for(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    with listening(receiver, "127.0.0.1", 0, token_in(tmp_path / "token", "127.0.0.1")) as url:
        codes = [post(url, notification("Drift"), **headers).status_code for headers in _WRONG]
        assert codes == [401, 401, 401]
        assert (httpx.get(f"{url}/metrics").status_code, httpx.get(f"{url}/livez").status_code) == (401, 200)
        assert receiver.inbox.waiting() == 0
        assert post(url, notification("Drift"), Authorization="Bearer hunter2").json() == {"accepted": 1}


def test_others_are_let_in_with_a_token_only(tmp_path: Path) -> None:
    assert [token_in(None, host) for host in ("127.0.0.1", "::1", "localhost")] == [None] * 3
    for host in ("10.0.0.1", "receiver.example", ""):
        with pytest.raises(TrainingError, match=rf"^--host {re.escape(host)}: needs --token-file"):
            token_in(None, host)
    (tmp_path / "token").write_text("\n")
    with pytest.raises(TrainingError, match=r"token: is empty$"):
        token_in(tmp_path / "token", "10.0.0.1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"on_alert": {}}, "retraining.on_alert: names no alert"),
        ({"on_alert": {"A": "halt"}}, "CREDIT_SCORING_HALT_FILE: must name the file that halts the challengers"),
        ({}, "--data: name labelled applications, here or as retraining.data in the settings"),
    ],
)
def test_a_receiver_that_could_not_act_does_not_start(
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CREDIT_SCORING_HALT_FILE", raising=False)
    settings = _settings(tmp_path, **changes)
    assert main(["receive", "--settings", str(settings), "--port", "0", "--inbox", str(tmp_path / "inbox")]) == 1
    assert capsys.readouterr().err.endswith(f"{said}\n")


def test_the_alerts_of_the_settings_are_alerts_of_the_rules() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerting.rules.yml").read_text())
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert set(_delivered().retraining.on_alert) <= names


def _delivered() -> TrainingSettings:
    return TrainingSettings.load(ROOT / "configs" / "training.yaml", ROOT / "tests" / "portfolios" / "german_like")


def _settings(folder: Path, **changes: Any) -> Path:
    loaded = _delivered().model_dump(mode="json")
    loaded["retraining"] |= changes
    path = folder / "training.yaml"
    path.write_text(yaml.safe_dump(loaded))
    return path


def test_a_killed_receiver_goes_on_with_what_waits(tmp_path: Path) -> None:
    """Its retraining is asked for data that are not there, so it fails, and the alert is taken from the inbox."""
    inbox, port = tmp_path / "inbox", free_port()
    words = ["receive", "--port", str(port), "--inbox", str(inbox), "--data", str(tmp_path / "none")]
    words += ["--settings", str(_settings(tmp_path)), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command = [sys.executable, "-m", "training", *words]
    Inbox(inbox, timedelta(days=7)).add("CreditScoringDrift")
    running = [subprocess.Popen(command, cwd=ROOT, env=unmeasured(), stdout=subprocess.PIPE, text=True)]
    assert running[0].stdout is not None
    assert running[0].stdout.readline().startswith(f"listening on http://127.0.0.1:{port}: CreditScoringDrift retrain")
    assert running[0].stdout.readline() == "retraining: alert CreditScoringDrift\n"
    running[0].kill()
    running[0].wait(_DEADLINE)
    running[0].stdout.close()
    assert Inbox(inbox, timedelta(days=7)).waiting() == 1
    again = subprocess.Popen(command, cwd=ROOT, env=unmeasured(), stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    lines = [again.stdout.readline() for _ in range(3)]
    assert lines[2].startswith("the retraining failed with exit code 1; the next repetition of alert Credit")
    assert Inbox(inbox, timedelta(days=7)).waiting() == 0
    os.kill(again.pid, signal.SIGTERM)
    assert again.wait(_DEADLINE) == 128 + signal.SIGTERM
    again.stdout.close()


def test_a_folder_is_one_receivers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inbox = Inbox(tmp_path / "inbox", timedelta(days=7))
    inbox.add("CreditScoringDrift")
    words = ["receive", "--settings", str(_settings(tmp_path)), "--port", "0", "--data", str(tmp_path)]
    with inbox.held():
        assert main([*words, "--inbox", str(inbox.folder)]) == 1
    assert capsys.readouterr().err == f"error: {inbox.folder}: another receiver works there\n"
    assert inbox.waiting() == 1
    with inbox.held():  # it was let go
        pass


def test_work_is_done_in_turn_and_kept_as_done(receiver: Receiver) -> None:
    for name in ("Drift", "Failing"):
        receiver.inbox.add(name)
    receiver.act()
    assert (receiver.inbox.waiting(), receiver.inbox.is_new("Drift")) == (0, False)
    assert receiver.registry.get_sample_value("credit_scoring_receiver_retrainings_total", {"code": "0"}) == 2


@needs("prometheus-alertmanager")
def test_a_real_alertmanager_is_understood(receiver: Receiver, url: str, tmp_path: Path) -> None:
    observed = Observed.load(ROOT / "configs" / "monitoring.yaml", ROOT / "configs" / "serving.yaml")
    values = observed.alerting.model_dump(mode="json")
    values["routing"] |= {"group_wait": "1ms", "retraining": {"url": f"{url}/alerts", "alerts": ["Drift"]}}
    values["routing"]["receivers"] = dict.fromkeys(values["routing"]["receivers"], f"{url}/others")
    made = rendered(replace(observed, alerting=AlertingSettings.model_validate(values)))
    (tmp_path / "alertmanager.yml").write_text(made["prometheus/alertmanager.yml"])
    address = f"127.0.0.1:{free_port()}"
    with alertmanager(tmp_path / "alertmanager.yml", tmp_path, address):
        labels = {"alertname": "Drift", "job": "credit-scoring", "severity": "warning"}
        httpx.post(f"http://{address}/api/v2/alerts", json=[{"labels": labels}], timeout=_DEADLINE).raise_for_status()
        deadline = time.monotonic() + _DEADLINE
        while (waiting := receiver.inbox.first()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert waiting.read_text() == "Drift\n"
    assert receiver.inbox.waiting() == 1
