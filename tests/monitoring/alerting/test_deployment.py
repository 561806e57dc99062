"""The files of deploy/: they are what the settings make, fit the service's settings, and say what they must."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.alerting.prometheus import scraping
from monitoring.cli import main
from monitoring.deployment import grafana_files, prometheus_files
from monitoring.settings import MonitoringSettings
from serving.settings import ServingSettings
from tests.server import ROOT
from tests.skipped import needs

SETTINGS = MonitoringSettings.load(ROOT / "configs" / "monitoring.yaml")
SERVING = ServingSettings.load(ROOT / "configs" / "serving.yaml")
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RUNBOOK = (ROOT / "docs" / "how-to" / "runbook.md").read_text()

needs_amtool = needs("amtool")
needs_promtool = needs("promtool")


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "alerting.rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def files(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("made", "folder"), [(prometheus_files, PROMETHEUS), (grafana_files, GRAFANA)])
def test_what_is_committed_is_what_the_settings_make(made, folder):
    assert files(folder) == made(SETTINGS)


@pytest.mark.parametrize(("command", "folder"), [("rules", PROMETHEUS), ("dashboard", GRAFANA)])
def test_the_commands_write_what_is_committed(monkeypatch, tmp_path, command, folder):
    monkeypatch.chdir(ROOT)
    assert main([command, "--output", str(tmp_path / "made")]) == 0
    assert files(tmp_path / "made") == files(folder)


@pytest.mark.parametrize("command", ["rules", "dashboard"])
def test_wrong_settings_write_nothing(tmp_path, capsys, command):
    wrong = tmp_path / "monitoring.yaml"
    wrong.write_text((ROOT / "configs" / "monitoring.yaml").read_text().replace("rate: 5m", "rate: five"))
    assert main([command, "--settings", str(wrong), "--output", str(tmp_path / "made")]) == 1
    assert capsys.readouterr().err == (
        f"error: {wrong}: alerting.windows.rate: Value error, must be a whole number and a unit (ms, s, m, h or d), "
        "like 5m\n"
    )
    assert not (tmp_path / "made").exists()


@needs_promtool
def test_prometheus_accepts_its_files():
    subprocess.run(["promtool", "check", "config", "--lint-fatal", PROMETHEUS / "prometheus.yml"], check=True)


@needs_promtool
def test_prometheus_sends_the_key_that_the_settings_name(tmp_path):
    (tmp_path / "key").write_text("csk_example")
    keyed = SETTINGS.alerting.model_copy(update={"credentials_file": str(tmp_path / "key")})
    (job,) = scraping(keyed)["scrape_configs"]
    assert job["authorization"] == {"type": "Bearer", "credentials_file": str(tmp_path / "key")}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scraping(keyed) | {"rule_files": []}))
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True)


@needs_amtool
def test_alertmanager_accepts_its_file():
    subprocess.run(["amtool", "check-config", PROMETHEUS / "alertmanager.yml"], check=True)


@needs_amtool
@pytest.mark.parametrize("severity", ["critical", "warning", "info", "none"])
def test_each_severity_has_its_receiver(severity):
    command = ["amtool", "config", "routes", "test", f"--config.file={PROMETHEUS / 'alertmanager.yml'}"]
    routed = subprocess.run([*command, f"severity={severity}"], check=True, capture_output=True, text=True)
    assert routed.stdout == f"{severity}\n"


def test_the_latency_objective_is_a_bucket_of_the_service():
    assert SETTINGS.alerting.objectives.latency_seconds in SERVING.metrics.duration_buckets


def test_limits_on_latency_are_where_the_buckets_can_tell():
    limits, buckets = SETTINGS.alerting.limits, SERVING.metrics.duration_buckets
    assert max(limits.p99_seconds, limits.batch_p99_seconds) < max(buckets)
    assert max(limits.p99_seconds, limits.batch_p99_seconds) < SERVING.limits.timeout_seconds


def test_a_segment_is_old_only_after_it_should_have_been_closed():
    log = SETTINGS.recording.log
    assert SETTINGS.alerting.limits.segment_age.seconds > log.segment_seconds + log.settle_seconds


def test_a_drift_window_is_old_only_after_it_should_have_ended():
    assert SETTINGS.alerting.limits.drift_window_age.seconds > SETTINGS.recording.window.seconds


def test_the_default_rate_is_that_of_the_days_that_the_service_takes():
    assert SETTINGS.alerting.windows.baseline.seconds == SETTINGS.recording.default_rate_days * 86_400


@pytest.mark.parametrize("alert", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_to_do(alert):
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    address, anchor = alert["annotations"]["runbook_url"].split("#")
    assert address == SETTINGS.alerting.runbook
    assert anchor == alert["alert"].lower()


def paragraphs() -> dict[str, str]:
    """The runbook's sections by heading."""
    return dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", RUNBOOK, flags=re.DOTALL | re.MULTILINE))


def test_the_runbook_has_a_paragraph_for_every_alert_and_no_other():
    assert set(paragraphs()) == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in alerts()}))
def test_a_paragraph_of_the_runbook_says_meaning_check_and_action(name):
    assert re.findall(r"^\*\*(\w+)\.\*\*", paragraphs()[name], flags=re.MULTILINE) == ["Means", "Check", "Do"]


def test_faster_rules_are_the_same_rules_with_shorter_times():
    fast = SETTINGS.alerting.faster(60)
    assert (str(fast.windows.rate), str(fast.windows.baseline), str(fast.scrape_interval)) == ("5s", "168m", "250ms")
    assert fast.limits.error_ratio == SETTINGS.alerting.limits.error_ratio
    assert fast.objectives.burns[0].factor == SETTINGS.alerting.objectives.burns[0].factor


def test_every_panel_has_a_place_of_its_own():
    panels = json.loads((GRAFANA / "dashboards" / "credit_scoring.json").read_text())["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert all(p["x"] + p["w"] <= 24 for p in places)
    assert len({panel["id"] for panel in panels}) == len(panels)
