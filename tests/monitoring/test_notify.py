"""Telling a real Alertmanager, and servers that fail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.cli import main, tell_reasons
from monitoring.errors import NotificationError
from monitoring.notify import Alarm, Alertmanager
from monitoring.settings import MonitoringSettings, NotificationSettings
from tests.deploy.observability.daemons import alertmanager
from tests.monitoring.receiver import Posted, Receiver, receiving
from tests.server import ROOT, free_port
from tests.skipped import needs

SETTINGS = NotificationSettings(attempts=4, timeout_seconds=30, pause_seconds=1, lasts_seconds=3600)
DRIFT = Alarm("drift", True, "warning", "3 features have drifted", {"model_digest": "0123456789ab"})
GONE = replace(DRIFT, firing=False, summary="no alarm")
SECONDS = 600
"""How long Alertmanager may take to deliver."""

needs_alertmanager = needs("prometheus-alertmanager")
needs_amtool = needs("amtool")


@dataclass(frozen=True)
class Running:
    """An Alertmanager, and who hears from it."""

    address: str
    receiver: Receiver

    def tell(self, *alarms: Alarm, settings: NotificationSettings = SETTINGS) -> None:
        """Tell it of the alarms, one after the other, now."""
        for alarm in alarms:
            Alertmanager(self.address, settings).tell(alarm, datetime.now(UTC))

    def amtool(self, *words: str) -> Any:
        """What amtool says, parsed."""
        command = ["amtool", f"--alertmanager.url={self.address}", "--output=json", *words]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    def wait_for(self, name: str, status: str) -> list[Posted]:
        """All that was delivered when the alarm with the name was."""
        self.receiver.wait_until(lambda posted: (name, status) in map(_said, posted), SECONDS)
        return list(self.receiver.posted)


def _said(posted: Posted) -> tuple[str, str]:
    return posted.body["commonLabels"]["alertname"], posted.body["status"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with receiving() as receiver, _alertmanager(tmp_path, receiver) as address:
        yield Running(address, receiver)


@contextmanager
def _alertmanager(folder: Path, receiver: Receiver) -> Iterator[str]:
    times = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    configuration = {
        "route": {"receiver": "all", "group_by": ["alertname"], **times},
        "receivers": [{"name": "all", "webhook_configs": [{"url": receiver.url}]}],
    }
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    with alertmanager(folder / "alertmanager.yml", folder, address):
        yield f"http://{address}"


@pytest.mark.slow
@needs_alertmanager
def test_an_alarm_that_is_told_again_is_delivered_once_and_so_is_its_end(running: Running):
    running.tell(DRIFT, replace(DRIFT, summary="4 features have drifted"))
    running.wait_for("drift", "firing")
    running.tell(DRIFT, GONE)
    delivered = running.wait_for("drift", "resolved")
    assert [_said(posted) for posted in delivered] == [("drift", "firing"), ("drift", "resolved")]
    (alert,) = delivered[0].body["alerts"]
    assert alert["labels"] == {"alertname": "drift", "severity": "warning", "model_digest": "0123456789ab"}


@pytest.mark.slow
@needs_alertmanager
def test_an_end_without_an_alarm_is_not_delivered(running: Running):
    running.tell(GONE)
    running.tell(replace(DRIFT, name="performance"))
    running.wait_for("performance", "firing")
    running.tell(replace(GONE, name="performance"))
    assert {_said(posted)[0] for posted in running.wait_for("performance", "resolved")} == {"performance"}


@pytest.mark.slow
@needs_alertmanager
def test_an_alarm_that_is_not_told_again_ends(running: Running):
    running.tell(DRIFT, settings=SETTINGS.model_copy(update={"lasts_seconds": 5}))
    running.wait_for("drift", "resolved")


@pytest.mark.slow
@needs_alertmanager
@needs_amtool
def test_other_models_and_severities_are_alarms_of_their_own(running: Running):
    running.tell(DRIFT, DRIFT, replace(DRIFT, labels={"model_digest": "other"}), replace(DRIFT, severity="critical"))
    told = {(one["labels"]["severity"], one["labels"]["model_digest"]) for one in running.amtool("alert", "query")}
    assert told == {("warning", "0123456789ab"), ("warning", "other"), ("critical", "0123456789ab")}


@pytest.mark.slow
@needs_alertmanager
@needs_amtool
def test_what_is_silenced_is_known_and_not_active(running: Running):
    subprocess.run(
        ["amtool", f"--alertmanager.url={running.address}", "silence", "add", "alertname=drift", "--comment=known"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    running.tell(DRIFT)
    running.tell(replace(DRIFT, name="performance"))
    running.wait_for("performance", "firing")
    assert [one["labels"]["alertname"] for one in running.amtool("alert", "query", "--silenced")] == ["drift"]
    assert {_said(posted)[0] for posted in running.receiver.posted} == {"performance"}


@pytest.mark.slow
@needs_alertmanager
def test_the_commands_tell_of_an_alarm_and_its_end(monkeypatch, capsys, running: Running):
    monkeypatch.setenv("ALERTMANAGER_URL", running.address)
    command = ["notify", "--settings", str(ROOT / "configs" / "monitoring.yaml"), "--name", "feed", "--summary", "late"]
    assert main(command) == 0
    running.wait_for("feed", "firing")
    assert main([*command, "--resolved"]) == 0
    running.wait_for("feed", "resolved")
    assert capsys.readouterr().out == "feed: told that it fires\nfeed: told that it has ended\n"


@pytest.mark.slow
@needs_alertmanager
def test_a_check_tells_its_reasons_and_later_that_there_are_none(monkeypatch, running: Running):
    monkeypatch.setenv("ALERTMANAGER_URL", running.address)
    settings = MonitoringSettings.load(ROOT / "configs" / "monitoring.yaml").notification
    tell_reasons("drift", ("major drift of 2 features", "the score has drifted"), "0123456789abcdef", settings)
    running.wait_for("drift", "firing")
    tell_reasons("drift", (), "0123456789abcdef", settings)
    told = [posted.body["alerts"][0] for posted in running.wait_for("drift", "resolved")]
    assert [one["annotations"]["summary"] for one in told] == [
        "major drift of 2 features; the score has drifted", "no alarm",
    ]  # fmt: skip
    assert {one["labels"]["model_digest"] for one in told} == {"0123456789ab"}


def post(address: str) -> list[float]:
    """Tell the address; the pauses that were made."""
    pauses: list[float] = []
    Alertmanager(address, SETTINGS, sleep=pauses.append).tell(DRIFT, datetime.now(UTC))
    return pauses


@pytest.mark.parametrize("answer", [(500, {}), (503, {}), (429, {}), (408, {}), None])
def test_one_that_fails_is_asked_again_with_growing_pauses(answer):
    with receiving(answer, answer) as receiver:
        assert post(receiver.url) == [1, 2]
    assert [posted.path for posted in receiver.posted] == ["/api/v2/alerts"] * 3


@pytest.mark.parametrize("status", [302, 400, 401, 404])
def test_a_refusal_or_redirect_is_not_repeated(status):
    with receiving() as other, receiving((status, {"Location": other.url})) as receiver:
        with pytest.raises(NotificationError, match=f"status {status} in 1 attempts$"):
            post(receiver.url)
        assert (len(receiver.posted), len(other.posted)) == (1, 0)


def test_after_the_last_attempt_it_is_an_error_without_the_address():
    pauses: list[float] = []
    address = f"http://me:secret@127.0.0.1:{free_port()}/prefix"
    with pytest.raises(NotificationError) as raised:
        Alertmanager(address, SETTINGS, sleep=pauses.append).tell(DRIFT, datetime.now(UTC))
    assert str(raised.value) == (
        "ALERTMANAGER_URL: no Alertmanager took the alarm: ConnectionRefusedError in 4 attempts"
    )
    assert pauses == [1, 2, 4]


def test_of_a_cluster_every_member_is_told_and_one_is_enough():
    with receiving() as first, receiving() as second:
        assert post(f"{first.url}, http://127.0.0.1:{free_port()},{second.url}/prefix/") == [1, 2, 4]
    assert [posted.path for posted in first.posted] == ["/api/v2/alerts"]
    assert [posted.path for posted in second.posted] == ["/prefix/api/v2/alerts"]
    assert first.posted[0].body == second.posted[0].body


def test_a_login_in_the_address_is_sent_as_a_header_and_not_logged(caplog):
    caplog.set_level("INFO")
    with receiving() as receiver:
        post(receiver.url.replace("http://", "http://me:a%40b@"))
    assert receiver.posted[0].headers["Authorization"] == "Basic bWU6YUBi"
    assert caplog.messages == [f'HTTP Request: POST {receiver.url}/api/v2/alerts "HTTP/1.0 200 OK"']


@pytest.mark.parametrize(
    "address", ["", "file:///secret", "ftp://host/secret", "example.com/secret", "https://", "http://h:secret/", "http://h,",
     "http://h:0/secret", "http://h:65536/secret"],
)  # fmt: skip
def test_only_addresses_of_the_web_are_accepted(address):
    with pytest.raises(NotificationError, match=r"^ALERTMANAGER_URL: each address must be http:// or ") as raised:
        Alertmanager(address, SETTINGS)
    assert "secret" not in str(raised.value)


def test_without_an_address_it_says_so(monkeypatch, capsys):
    monkeypatch.delenv("ALERTMANAGER_URL", raising=False)
    settings = str(ROOT / "configs" / "monitoring.yaml")
    assert main(["notify", "--settings", settings, "--name", "feed", "--summary", "late"]) == 1
    assert capsys.readouterr().err == "error: ALERTMANAGER_URL is not set: name an Alertmanager to send alarms to\n"
