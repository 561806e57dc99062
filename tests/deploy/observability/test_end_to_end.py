"""The service under load, a real Prometheus and a real Alertmanager: faults are told, and their end.

The rules are those of deploy/, with every duration sixty times shorter.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import yaml

from configs.portfolios.home_credit.generator.dataset import APPLICATIONS, synthesize
from deploy.observability.files import rendered, written
from deploy.observability.settings import AlertingSettings, Observed
from monitoring.performance import Figures, Rates
from scoring.policy import RiskLevel
from tests.applications import Application, applications
from tests.deploy.observability.daemons import Prometheus, alertmanager, faster, prometheus
from tests.deploy.observability.load import Load, loading
from tests.monitoring.receiver import Posted, Receiver, receiving
from tests.server import ROOT, Server, free_port, serve
from tests.skipped import needs
from training.run import Delivered

FASTER = 60
DASHBOARD = "grafana/dashboards/credit_scoring.json"
DRIFT, OVERLOAD, WATCHDOG = "CreditScoringDrift", "CreditScoringShedding", "CreditScoringWatchdog"
_STARTING = 'ALERTS{alertname="CreditScoringAbsent"}'
"""Before the first scrape there is no service."""
SECONDS = 1200
"""How long anything that should happen may take."""

pytestmark = [
    pytest.mark.timeout(1_500),
    needs("prometheus"),
    needs("prometheus-alertmanager"),
]


@dataclass(frozen=True)
class Story:
    """What happened.

    Attributes
    ----------
    healthy : alerts that fired before anything was planted
    posted : what Alertmanager delivered, in order
    panels : the samples of every query of the dashboard
    """

    healthy: set[str]
    posted: list[Posted]
    panels: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def story(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("end-to-end")
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        service = stack.enter_context(_service(folder, delivered))
        observed = _observed(receiver, service.url)
        watching = stack.enter_context(_watching(folder, observed))
        load = stack.enter_context(loading(service.url, _applications(folder / "applications"), seed=3))
        return _told(observed, watching, receiver, load)


def _told(observed: Observed, watching: Prometheus, receiver: Receiver, load: Load) -> Story:
    _until(receiver, WATCHDOG, "firing")
    _wait_for(watching, f"credit_scoring_drift_window_rows > 0 unless on () {_STARTING}")
    _wait_for(watching, "credit_scoring_drift_alarm == 0")
    healthy = watching.firing()
    load.drifted.set()
    load.storm.set()
    for alert in (DRIFT, OVERLOAD):
        _until(receiver, alert, "firing")
    panels = _panels(observed, watching)
    load.drifted.clear()
    load.storm.clear()
    receiver.wait_until(lambda posted: _over(posted, DRIFT) and _over(posted, OVERLOAD), SECONDS)
    return Story(healthy, list(receiver.posted), panels)


def _told_of(posted: list[Posted], name: str, status: str) -> list[Posted]:
    return [post for post in posted if post.body["commonLabels"]["alertname"] == name and post.body["status"] == status]


def _over(posted: list[Posted], name: str) -> bool:
    """Whether what was told last of an alert is its end; gauges that a scrape left out may have ended it before."""
    told = [post.body["status"] for post in posted if post.body["commonLabels"]["alertname"] == name]
    return told[-1:] == ["resolved"]


def _until(receiver: Receiver, name: str, status: str) -> None:
    receiver.wait_until(lambda posted: bool(_told_of(posted, name, status)), SECONDS)


def _wait_for(watching: Prometheus, expr: str) -> list[dict[str, Any]]:
    """Its samples, once there are some: a scrape that a busy machine answers too late leaves gauges out for a while."""
    deadline = time.monotonic() + SECONDS
    while not (samples := watching.query(expr)):
        assert time.monotonic() < deadline, f"nothing: {expr}"
        time.sleep(0.2)
    return samples


@contextmanager
def _service(folder: Path, delivered: Delivered) -> Iterator[Server]:
    """Two workers, a place for one request in each, challengers, windows that are soon complete, and a decision log."""
    changes = {
        "CREDIT_SCORING_SETTINGS": ("serving.yaml", {
            "model": delivered.tag, "bentoml": {"workers": 2}, "limits": {"in_flight": 1},
            "variants": [
                {"name": "watched", "model": delivered.tag}, {"name": "tried", "model": delivered.tag, "share": 0.1},
            ],
        }),
        "CREDIT_SCORING_MONITORING": ("monitoring.yaml", {
            "recording": {
                "window": {"rows": 1000, "seconds": 3600, "at_least_seconds": 0},
                "checks": ["tests.deploy.observability.check:rows"],
            },
            # The tests' model knows its few applications too well; healthy windows must not raise the alarm.
            "drift": {"psi": {"moderate": 0.5, "major": 1.0}, "missing_shift": 0.3},
        }),
    }  # fmt: skip
    environment = {"DECISION_LOG_DIR": str(folder / "log"), "DECISION_LOG_KEY": "0123456789abcdef" * 4}
    for variable, (name, values) in changes.items():
        settings = yaml.safe_load((ROOT / "configs" / name).read_text())
        (folder / name).write_text(yaml.safe_dump(_changed(settings, values)))
        environment[variable] = str(folder / name)
    with serve(".", cwd=ROOT, log=folder / "service.log", environment=environment) as running:
        yield running


def _changed(settings: Any, values: Any) -> Any:
    if not isinstance(settings, dict) or not isinstance(values, dict):
        return values
    return {**settings, **{name: _changed(settings.get(name), value) for name, value in values.items()}}


def _observed(receiver: Receiver, service: str) -> Observed:
    """The project's settings, faster, with the addresses of this test."""
    loaded = Observed.load(ROOT / "configs" / "monitoring.yaml", ROOT / "configs" / "serving.yaml")
    alerting = faster(loaded.alerting.model_dump(mode="json"), FASTER)
    alerting["scrape_interval"] = "1s"  # a quarter of it is less than a busy machine may take to answer
    alerting["targets"] = [service.removeprefix("http://")]
    alerting["alertmanagers"] = [f"127.0.0.1:{free_port()}"]
    receivers = alerting["routing"]["receivers"]
    alerting["routing"]["receivers"] = {severity: f"{receiver.url}/{severity}" for severity in receivers}
    return replace(loaded, alerting=AlertingSettings.model_validate(alerting))


@contextmanager
def _watching(folder: Path, observed: Observed) -> Iterator[Prometheus]:
    """Prometheus and Alertmanager with the files that the settings make, and the figures of a performance report."""
    made = rendered(observed)
    written({Path(name).name: text for name, text in made.items() if name.startswith("prometheus/")}, folder)
    figures = folder / "figures"
    figures.mkdir()
    _figures().write(figures / "metrics")
    with _files(figures) as target:
        configuration = yaml.safe_load(made["prometheus/prometheus.yml"])
        configuration["scrape_configs"] += [{"job_name": "figures", "static_configs": [{"targets": [target]}]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        (address,) = observed.alerting.alertmanagers
        with (
            alertmanager(folder / "alertmanager.yml", folder, address),
            prometheus(folder / "prometheus.yml", folder) as it,
        ):
            yield it


def _figures() -> Figures:
    rates = Rates(expected=0.08, observed=0.09)
    levels = dict.fromkeys(map(str, RiskLevel), rates)
    return Figures("1-abc", datetime.now(UTC), auc=0.75, lower=0.74, upper=0.76, rates=rates, levels=levels)


@contextmanager
def _files(folder: Path) -> Iterator[str]:
    """What node_exporter does with the files of the folder, at the host and port given."""

    class Handler(SimpleHTTPRequestHandler):
        extensions_map: ClassVar = {"": "text/plain; version=0.0.4"}

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _applications(folder: Path) -> list[Application]:
    """Applications of the population of training, none of which the model was fitted on."""
    synthesize(folder, clients=2_000, seed=12, tables=APPLICATIONS)
    return applications(folder / "application_train.csv")


def _queries(dashboard: str) -> dict[str, str]:
    """Every query of the dashboard, by its panel, but those of histories: the model here reads none."""
    return {
        f"{panel['id']} {panel['title']}, {target['refId']}": target["expr"]
        for panel in json.loads(dashboard)["panels"]
        for target in panel.get("targets", [])
        if "credit_scoring_histories" not in target["expr"]
    }


def _panels(observed: Observed, watching: Prometheus) -> dict[str, list[dict[str, Any]]]:
    queries = _queries(rendered(observed)[DASHBOARD])
    chosen = {"$job": observed.alerting.job, "$__rate_interval": str(observed.alerting.windows.rate)}
    for variable, value in chosen.items():
        queries = {name: expr.replace(variable, value) for name, expr in queries.items()}
    return {name: _numbers(watching, expr) for name, expr in queries.items()}


def _numbers(watching: Prometheus, expr: str) -> list[dict[str, Any]]:
    """Its samples, once each is a number: a busy machine may not finish a batch within the window of a quantile."""
    deadline = time.monotonic() + SECONDS
    samples = _wait_for(watching, expr)
    while any(math.isnan(float(sample["value"][1])) for sample in samples):
        assert time.monotonic() < deadline, f"not a number: {expr}"
        time.sleep(0.2)
        samples = _wait_for(watching, expr)
    return samples


@pytest.mark.parametrize("alert", [DRIFT, OVERLOAD])
def test_a_fault_is_told_and_so_is_its_end(story: Story, alert: str):
    assert alert not in story.healthy
    told = [post.body["status"] for post in story.posted if post.body["commonLabels"]["alertname"] == alert]
    assert (told[0], told[-1]) == ("firing", "resolved")


@pytest.mark.parametrize(("alert", "path"), [(DRIFT, "/warning"), (OVERLOAD, "/warning"), (WATCHDOG, "/none")])
def test_an_alert_goes_to_the_receiver_of_its_severity(story: Story, alert: str, path: str):
    assert {post.path for post in _told_of(story.posted, alert, "firing")} == {path}


def test_drift_is_told_with_its_culprit_and_where_to_read_on(story: Story):
    annotations = _told_of(story.posted, DRIFT, "firing")[0].body["commonAnnotations"]
    assert "ext_source" in annotations["description"]
    assert annotations["runbook_url"] == "docs/how-to/runbook.md#creditscoringdrift"


@pytest.mark.parametrize("query", _queries((ROOT / "deploy" / DASHBOARD).read_text()))
def test_every_query_of_the_dashboard_has_an_answer(story: Story, query: str):
    values = [float(sample["value"][1]) for sample in story.panels[query]]
    assert values
    assert not any(map(math.isnan, values))
