"""Rules under promtool: a healthy service of two pods, one thing about it changed, and the alerts that fire."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

PODS = ("a", "b")
MINUTES = 2
"""Between two scrapes."""
CHANGES = 35
"""The scrape after which the one thing changes."""
END = 65
LATER = END - CHANGES - 1


def rising(per_minute: float) -> str:
    """A counter."""
    return f"0+{per_minute * MINUTES}x{END}"


def steady(value: float) -> str:
    """A gauge."""
    return f"{value}x{END}"


def then(before: float, after: float) -> str:
    """A gauge that changes."""
    return f"{before}x{CHANGES} {after}x{LATER}"


def turning(before: float, after: float) -> str:
    """A counter whose rate changes."""
    old, new = before * MINUTES, after * MINUTES
    return f"0+{old}x{CHANGES} {old * CHANGES + new}+{new}x{LATER}"


def _healthy(pod: str) -> dict[str, str]:
    return {
        "up": steady(1),
        **_requests(),
        **_decisions(),
        "credit_scoring_drift_alarm": steady(0),
        "credit_scoring_drift_score_psi": steady(0.02),
        'credit_scoring_drift_psi{feature="amt_credit"}': steady(0.03),
        'credit_scoring_feature_missing_ratio{feature="amt_credit"}': steady(0.2),
        'credit_scoring_feature_unseen_ratio{feature="name_contract_type"}': steady(0),
        "credit_scoring_drift_window_end_timestamp_seconds": rising(60),
        'credit_scoring_drift_check_failures_total{check="mine"}': steady(0),
        "credit_scoring_decision_log_lines_total": rising(600),
        'credit_scoring_decision_log_failures_total{reason="no_space"}': steady(0),
        "credit_scoring_checkpoint_failures_total": steady(0),
        "credit_scoring_decision_log_segment_age_seconds": steady(300),
        "credit_scoring_decision_log_unclosed_seconds": steady(3600),
        "credit_scoring_decision_log_set_aside": steady(0),
        "credit_scoring_counts_passed_over": steady(0),
        **({} if pod != "a" else {"credit_scoring_performance_auc_upper": steady(0.76)}),
        **({} if pod != "a" else {"credit_scoring_performance_timestamp_seconds": rising(60)}),
    }


def _requests() -> dict[str, str]:
    series = {}
    for endpoint, rate in (("/predict", 600), ("/predict/batch", 6)):
        for status, part in (("200", 0.98), ("422", 0.02), ("500", 0)):
            series[f'credit_scoring_requests_total{{endpoint="{endpoint}",status="{status}"}}'] = rising(rate * part)
        series |= response_seconds(endpoint, [(le, rising(rate)) for le in ("0.1", "0.25", "2.5", "+Inf")])
    return {
        **series,
        'credit_scoring_requests_shed_total{endpoint="/predict"}': steady(0),
        "credit_scoring_keys_stale": steady(0),
        'credit_scoring_thread_heartbeat_timestamp_seconds{thread="keys"}': rising(60),
        'credit_scoring_thread_heartbeat_timestamp_seconds{thread="drift"}': steady(1e12),
        'credit_scoring_thread_failures_total{thread="keys"}': steady(0),
        "up": steady(1),
    }


def response_seconds(endpoint: str, counts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The buckets of an endpoint and their count."""
    name = "credit_scoring_response_seconds"
    buckets = {f'{name}_bucket{{endpoint="{endpoint}",le="{le}"}}': values for le, values in counts}
    return {**buckets, f'{name}_count{{endpoint="{endpoint}"}}': list(buckets.values())[-1]}


def _decisions() -> dict[str, str]:
    rates = {("approve", "LOW"): 400, ("refer", "HIGH"): 50, ("decline", "CRITICAL"): 150}
    name = "credit_scoring_decisions_total"
    return {
        **{f'{name}{{decision="{d}",risk_level="{level}"}}': rising(rate) for (d, level), rate in rates.items()},
        "credit_scoring_probability_sum": rising(48),
        "credit_scoring_probability_count": rising(600),
        **_histories(),
        'credit_scoring_model_info{model="m",version="1",digest="d1"}': steady(1),
    }


def _histories() -> dict[str, str]:
    rates = {"store": 540, "missing": 54, "stale": 6, "request": 0, "unavailable": 0}
    return {f'credit_scoring_histories_total{{source="{source}"}}': rising(rate) for source, rate in rates.items()}


def series(changes: Mapping[str, str | None]) -> list[dict[str, str]]:
    """promtool's input: both pods healthy but for the changes, which concern both; None takes a series away.

    A change whose name ends in `@a` concerns that pod alone.
    """
    written = {}
    for pod in PODS:
        mine = {name.removesuffix(f"@{pod}"): values for name, values in changes.items() if not _of_another(name, pod)}
        for name, values in {**_healthy(pod), **mine}.items():
            if values is not None:
                written[_labelled(name, pod)] = values
    return [{"series": name, "values": values} for name, values in written.items()]


def _of_another(name: str, pod: str) -> bool:
    return "@" in name and not name.endswith(f"@{pod}")


def _labelled(name: str, pod: str) -> str:
    metric, _, labels = name.partition("{")
    own = f'job="credit-scoring",instance="{pod}"'
    return f"{metric}{{{own},{labels}" if labels else f"{metric}{{{own}}}"


def firing(changes: Mapping[str, str | None], *, scrape: int, alerts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A promtool test: exactly these alerts, by name and severity, fire after that scrape."""
    samples = [
        {"labels": f'{{alertname="{name}",severity="{severity}"}}', "value": 1} for name, severity in sorted(alerts)
    ]
    asked = {
        "expr": 'group by (alertname, severity) (ALERTS{alertstate="firing",alertname!="CreditScoringWatchdog"})',
        "eval_time": f"{scrape * MINUTES}m",
        "exp_samples": samples,
    }
    return {"interval": f"{MINUTES}m", "input_series": series(changes), "promql_expr_test": [asked]}


def per_mille(query: str, label: str, values: Mapping[str, int], *, scrape: int) -> dict[str, Any]:
    """A promtool test: the healthy service answers the query after that scrape with these shares by the label."""
    expected = [{"labels": f'{{{label}="{name}"}}' if name else "{}", "value": value} for name, value in values.items()]
    asked = {"expr": f"round(1000 * {query})", "eval_time": f"{scrape * MINUTES}m", "exp_samples": expected}
    return {"interval": f"{MINUTES}m", "input_series": series({}), "promql_expr_test": [asked]}


def run(folder: Path, rules: Iterable[Path], tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """`promtool test rules`."""
    file = folder / "tests.yml"
    file.write_text(
        yaml.safe_dump(
            {"rule_files": [str(path) for path in rules], "evaluation_interval": f"{MINUTES}m", "tests": tests}
        )
    )
    return subprocess.run(["promtool", "test", "rules", str(file)], check=False, capture_output=True, text=True)
