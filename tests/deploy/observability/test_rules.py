"""Which alerts fire when, as promtool computes it from the committed rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from features.store import HistorySource
from tests.deploy.observability.promtool import (
    CHANGES,
    END,
    MINUTES,
    firing,
    per_mille,
    response_seconds,
    rising,
    run,
    steady,
    then,
    turning,
)
from tests.server import ROOT
from tests.skipped import needs

RULES = [ROOT / "deploy" / "prometheus" / f"{kind}.rules.yml" for kind in ("recording", "alerting")]

pytestmark = [needs("promtool"), pytest.mark.slow]

NOTHING: set[tuple[str, str]] = set()
BURNS = {
    (f"CreditScoring{objective}Burn", severity)
    for objective in ("Availability", "Latency")
    for severity in ("critical", "warning")
}
AVAILABILITY = {burn for burn in BURNS if "Availability" in burn[0]}
LATENCY = BURNS - AVAILABILITY
SPENT = {("CreditScoringAvailabilityBurn", "warning")}

OK = 'credit_scoring_requests_total{endpoint="/predict",status="200"}'
INVALID = 'credit_scoring_requests_total{endpoint="/predict",status="422"}'
FAILED = 'credit_scoring_requests_total{endpoint="/predict",status="500"}'
SHED = 'credit_scoring_requests_shed_total{endpoint="/predict"}'
APPROVED = 'credit_scoring_decisions_total{decision="approve",risk_level="LOW"}'
DECLINED = 'credit_scoring_decisions_total{decision="decline",risk_level="CRITICAL"}'
REFERRED = 'credit_scoring_decisions_total{decision="refer",risk_level="HIGH"}'
MISSING = 'credit_scoring_feature_missing_ratio{feature="amt_credit"}'
UNSEEN = 'credit_scoring_feature_unseen_ratio{feature="name_contract_type"}'
SEGMENT_AGE = "credit_scoring_decision_log_segment_age_seconds"
UNCLOSED = "credit_scoring_decision_log_unclosed_seconds"
LINES = "credit_scoring_decision_log_lines_total"
LOST = 'credit_scoring_decision_log_failures_total{reason="no_space"}'
CHECK = 'credit_scoring_drift_check_failures_total{check="mine"}'
HEARTBEAT = 'credit_scoring_thread_heartbeat_timestamp_seconds{thread="keys"}'
THREAD_FAILURES = 'credit_scoring_thread_failures_total{thread="keys"}'
SPLIT_FAILED = 'credit_scoring_split_applications_total{variant="challenger",outcome="failed"}'
SHADOW_FAILED = 'credit_scoring_shadow_applications_total{variant="challenger",outcome="failed"}'
HALTED = 'credit_scoring_variant_halted{variant="challenger",reason="failures"}'
UNLOADED = 'credit_scoring_variant_state{variant="challenger",state="missing"}'
HISTORIES = tuple(f'credit_scoring_histories_total{{source="{source}"}}' for source in HistorySource)
REQUESTED, FOUND, UNKNOWN, STALE, UNAVAILABLE = HISTORIES
WINDOW_END = "credit_scoring_drift_window_end_timestamp_seconds"
ONE_MODEL = 'credit_scoring_model_info{model="m",version="1",digest="d1"}'
OTHER_MODEL = 'credit_scoring_model_info{model="m",version="2",digest="d2"}'
BEGUN_LATE = f"_x{CHANGES + 1} 1x{END - CHANGES - 1}"
GONE = f"1x{CHANGES}"


def slow(endpoint: str, per_minute: int, *, within: str) -> dict[str, str]:
    """Answers of the endpoint that take longer from the change on, but not longer than `within`."""
    bounds = ("0.1", "0.25", "2.5", "+Inf")
    fast = turning(per_minute, per_minute // 2)
    return response_seconds(
        endpoint,
        [(le, rising(per_minute) if float(le) >= float(within) else fast) for le in bounds],
    )


# What is changed, and every alert that fires at the end, but for the watchdog.
FAULTS = {
    "nothing": ({}, NOTHING),
    "no pod answers": ({"up": then(1, 0)}, {("CreditScoringAbsent", "critical"), ("CreditScoringDown", "warning")}),
    "no pod is known": ({"up": GONE}, {("CreditScoringAbsent", "critical")}),
    "one pod does not answer": ({"up@a": then(1, 0)}, {("CreditScoringDown", "warning")}),
    "a fifth fails": (
        {OK: turning(588, 480), FAILED: turning(0, 120)},
        {("CreditScoringErrors", "critical")} | AVAILABILITY,
    ),
    "one in five hundred fails": (
        {OK: rising(587), FAILED: rising(1.2)},
        SPENT,
    ),
    "one in two thousand fails": ({OK: rising(588), FAILED: rising(0.3)}, NOTHING),
    "half of the single answers are slow": (
        slow("/predict", 600, within="2.5"),
        {("CreditScoringSlow", "warning")} | LATENCY,
    ),
    "half of the batches are slow": (slow("/predict/batch", 6, within="+Inf"), {("CreditScoringSlow", "warning")}),
    "batches take as long as they may": (slow("/predict/batch", 6, within="0.25"), NOTHING),
    "some are shed": ({SHED: turning(0, 20)}, {("CreditScoringShedding", "warning")}),
    "hardly any is shed": ({SHED: turning(0, 2)}, NOTHING),
    "a third is invalid": ({INVALID: turning(12, 300)}, {("CreditScoringInvalidRequests", "warning")}),
    "nothing is decided": (
        {name: turning(rate, 0) for name, rate in ((APPROVED, 400), (DECLINED, 150), (REFERRED, 50))},
        {("CreditScoringNoDecisions", "critical")},
    ),
    "a window has drifted on one pod": (
        {"credit_scoring_drift_alarm@a": then(0, 1)},
        {("CreditScoringDrift", "warning")},
    ),
    "keys cannot be read on one pod": (
        {"credit_scoring_keys_stale@a": then(0, 1)},
        {("CreditScoringKeysStale", "warning")},
    ),
    "the feature store is down": (
        {FOUND: turning(540, 0), STALE: turning(6, 0), UNAVAILABLE: turning(0, 546)},
        {("CreditScoringHistoriesUnavailable", "critical")},
    ),
    "the feature store is down where most requests have a history": (
        {REQUESTED: rising(540), FOUND: turning(6, 0), STALE: steady(0), UNAVAILABLE: turning(0, 6)},
        {("CreditScoringHistoriesUnavailable", "critical")},
    ),
    "the feature store is late now and then": ({UNAVAILABLE: turning(0, 20)}, NOTHING),
    "the feature store is filled no longer": (
        {FOUND: turning(540, 400), STALE: turning(6, 146)},
        {("CreditScoringHistoriesStale", "warning")},
    ),
    "some clients are in the files no longer": ({FOUND: turning(540, 500), STALE: turning(6, 46)}, NOTHING),
    "the feature store came back empty": (
        {FOUND: turning(540, 0), STALE: turning(6, 0), UNKNOWN: turning(54, 600)},
        {("CreditScoringHistoriesMissing", "critical")},
    ),
    "the feature store of a lender with many new clients came back empty": (
        {FOUND: turning(60, 0), STALE: steady(0), UNKNOWN: turning(540, 600)},
        {("CreditScoringHistoriesMissing", "critical")},
    ),
    "the feature store came back empty where few are looked up": (
        {REQUESTED: rising(600), FOUND: turning(1, 0), STALE: steady(0), UNKNOWN: turning(1, 2)},
        {("CreditScoringHistoriesMissing", "critical")},
    ),
    "the feature store came back empty where hardly anybody is known": (
        {FOUND: turning(0.4, 0), STALE: steady(0), UNKNOWN: turning(600, 600.4)},
        NOTHING,
    ),
    "most clients are new and always were": (
        {FOUND: rising(60), STALE: steady(0), UNKNOWN: rising(540)},
        NOTHING,
    ),
    "more clients are new than before": ({FOUND: turning(540, 340), UNKNOWN: turning(54, 254)}, NOTHING),
    "there is no feature store": ({FOUND: steady(0), STALE: steady(0), UNKNOWN: rising(600)}, NOTHING),
    "no model reads histories": (dict.fromkeys(HISTORIES), NOTHING),
    "a thread of one pod stands still": (
        {f"{HEARTBEAT}@a": f"0+{60 * MINUTES}x{CHANGES} {60 * MINUTES * CHANGES}x{END - CHANGES - 1}"},
        {("CreditScoringThreadStopped", "critical")},
    ),
    "a thread fails and goes on": ({THREAD_FAILURES: turning(0, 1)}, {("CreditScoringThreadFailing", "warning")}),
    "the score has drifted a little": ({"credit_scoring_drift_score_psi": then(0.02, 0.15)}, NOTHING),
    "the score has drifted far": (
        {"credit_scoring_drift_score_psi": then(0.02, 0.3)},
        {("CreditScoringScoreDrifted", "critical")},
    ),
    "a feature is missing more often": ({MISSING: then(0.2, 0.35)}, {("CreditScoringMissingJump", "warning")}),
    "a feature is missing a little more often": ({MISSING: then(0.2, 0.25)}, NOTHING),
    "a feature is missing less often": ({MISSING: then(0.2, 0)}, NOTHING),
    "a category is new": ({UNSEEN: then(0, 0.15)}, {("CreditScoringUnseenJump", "warning")}),
    "a check of the user fails": ({CHECK: then(0, 3)}, {("CreditScoringDriftCheckFailing", "warning")}),
    "no window ends any more": (
        {WINDOW_END: f"-172800+120x{CHANGES} {-172800 + 120 * CHANGES}x{END - CHANGES - 1}"},
        {("CreditScoringDriftStale", "warning")},
    ),
    "more is declined": (
        {APPROVED: turning(400, 250), DECLINED: turning(150, 300)},
        {("CreditScoringDeclinesShifted", "warning")},
    ),
    "less is declined": (
        {APPROVED: turning(400, 530), DECLINED: turning(150, 20)},
        {("CreditScoringDeclinesShifted", "warning")},
    ),
    "other models on the pods": (
        {f"{ONE_MODEL}@a": GONE, f"{OTHER_MODEL}@a": BEGUN_LATE},
        {("CreditScoringModelsDisagree", "warning"), ("CreditScoringModelChanged", "info")},
    ),
    "another model on every pod": (
        {ONE_MODEL: GONE, OTHER_MODEL: BEGUN_LATE},
        {("CreditScoringModelChanged", "info")},
    ),
    "a challenger with a share fails": ({SPLIT_FAILED: turning(0, 1)}, {("CreditScoringVariantFailing", "warning")}),
    "a challenger in shadow fails": ({SHADOW_FAILED: turning(0, 1)}, {("CreditScoringVariantFailing", "warning")}),
    "a challenger is halted": ({HALTED: then(0, 1)}, {("CreditScoringVariantHalted", "warning")}),
    "a challenger is missing": ({UNLOADED: then(0, 1)}, {("CreditScoringVariantMissing", "warning")}),
    "the AUC is below the floor": (
        {"credit_scoring_performance_auc_upper@a": then(0.76, 0.69)},
        {("CreditScoringPerformanceLow", "critical")},
    ),
    "the AUC was last measured long ago": (
        {"credit_scoring_performance_timestamp_seconds@a": steady(-40 * 86_400)},
        {("CreditScoringPerformanceStale", "warning")},
    ),
    "lines are lost": ({LOST: turning(0, 5)}, {("CreditScoringLogFailing", "critical")}),
    "a first line was lost on one pod": (
        {LOST: None, f"{LOST}@a": f"_x{END - 1} 1x1"},
        {("CreditScoringLogFailing", "critical")},
    ),
    "a line was lost long ago": ({LOST: f"0x20 1x{END - 21}"}, NOTHING),
    "one pod writes no line": ({f"{LINES}@a": turning(600, 0)}, {("CreditScoringLogIncomplete", "critical")}),
    "there is no log": ({LINES: steady(0), SEGMENT_AGE: None}, NOTHING),
    "a segment stays open": ({SEGMENT_AGE: then(300, 8000)}, {("CreditScoringLogNotRotated", "warning")}),
    "segments are closed a day late": ({UNCLOSED: then(3600, 86_400)}, NOTHING),
    "segments are not closed any more": (
        {UNCLOSED: then(3600, 200_000)},
        {("CreditScoringLogNotClosed", "warning")},
    ),
    "a checkpoint cannot be kept": (
        {"credit_scoring_checkpoint_failures_total@a": turning(0, 1)},
        {("CreditScoringCheckpointsFailing", "critical")},
    ),
    "a file was set aside": (
        {"credit_scoring_decision_log_set_aside": then(0, 1)},
        {("CreditScoringLogSetAside", "warning")},
    ),
    "one pod passes over a file of counts": (
        {"credit_scoring_counts_passed_over@a": then(0, 1)},
        {("CreditScoringCountsPassedOver", "warning")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fires_its_alerts_and_no_others(tmp_path: Path, fault: str):
    changes, alerts = FAULTS[fault]
    tested = run(tmp_path, RULES, [firing(changes, scrape=END, alerts=alerts)])
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_an_empty_feature_store_is_told_within_minutes_where_many_are_looked_up(tmp_path: Path):
    many, few = (FAULTS[f"the feature store came back empty{where}"][0] for where in ("", " where few are looked up"))
    soon, later = CHANGES + 6, CHANGES + 20
    alerts = {("CreditScoringHistoriesMissing", "critical")}
    tests = [
        firing(many, scrape=soon, alerts=alerts), firing(few, scrape=soon, alerts=NOTHING),
        firing(few, scrape=later, alerts=alerts),
    ]  # fmt: skip
    tested = run(tmp_path, RULES, tests)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_dashboard_has_the_share_of_each_source_of_histories(tmp_path: Path):
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "credit_scoring.json").read_text())
    queries = {
        panel["title"]: target["expr"].replace("$job", "credit-scoring")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        if "credit_scoring_histories" in target["expr"]
    }
    shares = {
        "Sources": {"request": 0, "store": 900, "missing": 90, "stale": 10, "unavailable": 0},
        "Unavailable": {"": 0},
        "Stale": {"": 11},
        "Lost": {"": 0},
    }
    assert queries.keys() == shares.keys()
    tests = [per_mille(f"sum by (source) ({queries[title]})", "source", shares[title], scrape=END) for title in shares]
    tested = run(tmp_path, RULES, tests)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_fault_that_has_passed_fires_nothing_but_what_is_left_of_the_budget(tmp_path: Path):
    passed = {
        FAILED: f"0x15 0+240x10 2400x{END - 27}",
        "credit_scoring_drift_score_psi": f"0.02x15 0.3x10 0.02x{END - 27}",
    }
    during = {("CreditScoringErrors", "critical"), ("CreditScoringScoreDrifted", "critical")} | AVAILABILITY
    tests = [firing(passed, scrape=24, alerts=during), firing(passed, scrape=END, alerts=SPENT)]
    tested = run(tmp_path, RULES, tests)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_moment_is_not_enough(tmp_path: Path):
    moment = {FAILED: f"0x{CHANGES} 200x{END - CHANGES - 1}", "up@a": f"1x{CHANGES} 0x0 1x{END - CHANGES - 2}"}
    tested = run(tmp_path, RULES, [firing(moment, scrape=CHANGES + 2, alerts=SPENT)])
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_a_fault_that_fires_it():
    document = yaml.safe_load(RULES[1].read_text())
    declared = {(rule["alert"], rule["labels"]["severity"]) for group in document["groups"] for rule in group["rules"]}
    assert declared - {("CreditScoringWatchdog", "none")} == set().union(*(alerts for _, alerts in FAULTS.values()))


def test_nothing_fires_while_a_service_starts(tmp_path: Path):
    tested = run(tmp_path, RULES, [firing({}, scrape=scrape, alerts=NOTHING) for scrape in range(0, END, 7)])
    assert tested.returncode == 0, tested.stdout + tested.stderr
