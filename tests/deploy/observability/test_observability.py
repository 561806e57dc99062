"""The files of deploy/: they are what the settings make, fit the service's settings, and say what they must."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.errors import DeployError
from deploy.observability.__main__ import main
from deploy.observability.files import OUTPUTS, TEMPLATES, rendered
from deploy.observability.settings import AlertingSettings, Observed
from monitoring.settings import MonitoringSettings
from tests.server import ROOT
from tests.skipped import needs

CONFIGURATION = ROOT / "configs"
OBSERVED = Observed.load(CONFIGURATION / "monitoring.yaml", CONFIGURATION / "serving.yaml")
SETTINGS = MonitoringSettings.load(CONFIGURATION / "monitoring.yaml")
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
GRAFANA = DEPLOY / "grafana"
RUNBOOK = (ROOT / "docs" / "how-to" / "runbook.md").read_text()

needs_amtool = needs("amtool")
needs_promtool = needs("promtool")


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "alerting.rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def files(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_is_committed_is_what_the_templates_give(output):
    assert (DEPLOY / output).read_text() == rendered(OBSERVED)[output]


def test_the_command_writes_every_output_and_nothing_else(tmp_path):
    assert main(["--output", str(tmp_path)]) == 0
    assert files(tmp_path) == {output: (DEPLOY / output).read_text() for output in OUTPUTS}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "rate: 5m", "rate: five",
            "alerting.windows.rate: Value error, must be a whole number and a unit (ms, s, m, h or d), like 5m",
        ),
        ("error_ratio: 0.05", "error_share: 0.05", "alerting.limits.error_share: Extra inputs"),
        ("latency_seconds: 0.1 ", "latency_seconds: 0.11 ", "must be one of metrics.duration_buckets of "),
        ("batch_p99_seconds: 2.0", "batch_p99_seconds: 200.0", "must be less than limits.timeout_seconds "),
        ("severity: critical, factor: 6", "severity: loud, factor: 6", "alerting.objectives.burns.1.severity"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told_in_one_line_and_write_nothing(tmp_path, capsys, old, new, told):
    wrong = tmp_path / "monitoring.yaml"
    content = (CONFIGURATION / "monitoring.yaml").read_text()
    assert old in content
    wrong.write_text(content.replace(old, new))
    assert main(["--monitoring", str(wrong), "--output", str(tmp_path / "made")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {wrong}: ")
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_a_name_that_no_setting_has_is_told_with_its_template(tmp_path):
    for template in TEMPLATES.iterdir():
        (tmp_path / template.name).write_text(template.read_text().replace("limits.error_ratio", "limits.error_share"))
    with pytest.raises(DeployError, match=r"alerting\.rules\.yml: .*has no attribute 'error_share'"):
        rendered(OBSERVED, tmp_path)


def test_the_rules_of_the_operator_are_those_of_prometheus():
    groups = [group for name in ("alerting", "recording") for group in _groups(PROMETHEUS / f"{name}.rules.yml")]
    manifest = yaml.safe_load((DEPLOY / "kubernetes" / "base" / "prometheus-rule.yaml").read_text())
    assert manifest["spec"]["groups"] == groups


def _groups(rules: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(rules.read_text())["groups"]
    return groups


@pytest.mark.parametrize(("bound", "matcher"), [(0.1, 'le="0.1"'), (1.0, r'le=~"1(\.0)?"')])
def test_a_bucket_is_matched_as_any_prometheus_writes_its_bound(bound, matcher):
    objectives = OBSERVED.alerting.objectives.model_copy(update={"latency_seconds": bound})
    alerting = OBSERVED.alerting.model_copy(update={"objectives": objectives})
    made = yaml.safe_load(rendered(replace(OBSERVED, alerting=alerting))["prometheus/recording.rules.yml"])
    burn = next(r for g in made["groups"] for r in g["rules"] if r["record"].startswith("job:credit_scoring_latency"))
    assert f'{{endpoint=~"/predict|/predict/features|/explain",{matcher}}}' in burn["expr"]


@needs_promtool
def test_prometheus_accepts_its_files():
    subprocess.run(["promtool", "check", "config", "--lint-fatal", PROMETHEUS / "prometheus.yml"], check=True)


@needs_promtool
def test_prometheus_sends_the_key_that_the_settings_name(tmp_path):
    (tmp_path / "key").write_text("csk_example")
    alerting = OBSERVED.alerting.model_copy(update={"credentials_file": str(tmp_path / "key")})
    configuration = yaml.safe_load(rendered(replace(OBSERVED, alerting=alerting))["prometheus/prometheus.yml"])
    (job,) = configuration["scrape_configs"]
    assert job["authorization"] == {"type": "Bearer", "credentials_file": str(tmp_path / "key")}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration | {"rule_files": []}))
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


@needs_amtool
def test_the_receiver_that_retrains_hears_of_its_alerts_besides(tmp_path):
    observed = Observed.load(ROOT / "configs" / "monitoring.yaml", ROOT / "configs" / "serving.yaml")
    values = observed.alerting.model_dump(mode="json")
    values["routing"]["retraining"] = {
        "url": "http://127.0.0.1:9095/alerts",
        "credentials_file": "/etc/alertmanager/token",
        "alerts": ["CreditScoringDrift", "CreditScoringPerformanceLow"],
    }
    changed = replace(observed, alerting=AlertingSettings.model_validate(values))
    file = tmp_path / "alertmanager.yml"
    file.write_text(rendered(changed)["prometheus/alertmanager.yml"])
    subprocess.run(["amtool", "check-config", file], check=True)
    command = ["amtool", "config", "routes", "test", f"--config.file={file}", "severity=warning"]
    for alert, receivers in (("CreditScoringDrift", "retraining,warning"), ("CreditScoringSlow", "warning")):
        found = subprocess.run([*command, f"alertname={alert}"], check=True, capture_output=True, text=True)
        assert found.stdout.strip() == receivers


def test_a_segment_is_old_only_after_it_should_have_been_closed():
    log = SETTINGS.recording.log
    assert OBSERVED.alerting.limits.segment_age.seconds > log.segment_seconds + log.settle_seconds


def test_a_drift_window_is_old_only_after_it_should_have_ended():
    assert OBSERVED.alerting.limits.drift_window_age.seconds > SETTINGS.recording.window.seconds


def test_the_default_rate_is_that_of_the_days_that_the_service_takes():
    assert OBSERVED.alerting.windows.baseline.seconds == SETTINGS.recording.default_rate_days * 86_400


@pytest.mark.parametrize("alert", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_to_do(alert):
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    address, anchor = alert["annotations"]["runbook_url"].split("#")
    assert address == OBSERVED.alerting.runbook
    assert anchor == alert["alert"].lower()


def paragraphs() -> dict[str, str]:
    """The runbook's sections by heading."""
    return dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", RUNBOOK, flags=re.DOTALL | re.MULTILINE))


def test_the_runbook_has_a_paragraph_for_every_alert_and_no_other():
    assert set(paragraphs()) == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in alerts()}))
def test_a_paragraph_of_the_runbook_says_severity_meaning_check_and_action(name):
    found = re.findall(r"^\*\*(\w+)\.\*\*", paragraphs()[name], flags=re.MULTILINE)
    assert found == ["Severity", "Means", "Check", "Do"]


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in alerts()}))
def test_the_severities_in_the_runbook_are_those_of_the_rules(name):
    (line,) = re.findall(r"^\*\*Severity\.\*\* (.*)\.$", paragraphs()[name], flags=re.MULTILINE)
    stated = {part.split()[0] for part in line.split("; ")}
    assert stated == {alert["labels"]["severity"] for alert in alerts() if alert["alert"] == name}


def test_every_panel_has_a_place_of_its_own():
    panels = json.loads((GRAFANA / "dashboards" / "credit_scoring.json").read_text())["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert all(p["x"] + p["w"] <= 24 for p in places)
    assert len({panel["id"] for panel in panels}) == len(panels)
