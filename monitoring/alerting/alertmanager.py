"""The configuration of Alertmanager: who hears of which alert, how often, and what need not be said."""

from __future__ import annotations

from typing import Any

from monitoring.alerting.settings import AlertingSettings, Routing, Severity

_GROUPED = ("alertname", "job")


def routes(settings: AlertingSettings) -> dict[str, Any]:
    """alertmanager.yml: a receiver for each severity."""
    routing = settings.routing
    return {
        "route": _route(routing),
        "inhibit_rules": _inhibitions(),
        "receivers": [_receiver(severity, routing) for severity in Severity],
    }


def _route(routing: Routing) -> dict[str, Any]:
    return {
        "receiver": Severity.WARNING.value,
        "group_by": list(_GROUPED),
        "group_wait": str(routing.group_wait),
        "group_interval": str(routing.group_interval),
        "repeat_interval": str(routing.repeat_interval[Severity.WARNING]),
        "routes": [_heartbeat(routing), *(_branch(severity, routing) for severity in routing.repeat_interval)],
    }


def _branch(severity: Severity, routing: Routing) -> dict[str, Any]:
    return {
        "matchers": [f'severity="{severity}"'],
        "receiver": severity.value,
        "repeat_interval": str(routing.repeat_interval[severity]),
    }


def _heartbeat(routing: Routing) -> dict[str, Any]:
    """One message each interval; with an equal `repeat_interval` a moment too soon would make it every second one."""
    return {
        "matchers": [f'severity="{Severity.NONE}"'],
        "receiver": Severity.NONE.value,
        "group_wait": "0s",
        "group_interval": str(routing.heartbeat_interval),
        "repeat_interval": str(routing.heartbeat_interval / 2),
    }


def _inhibitions() -> list[dict[str, Any]]:
    """A service that is gone explains everything else; the graver of two alerts of one name says enough."""
    others = ['alertname!~"CreditScoringAbsent|CreditScoringWatchdog"']
    graver = [(Severity.CRITICAL, Severity.WARNING), (Severity.WARNING, Severity.INFO)]
    return [
        {"source_matchers": ['alertname="CreditScoringAbsent"'], "target_matchers": others, "equal": ["job"]},
        *(
            {
                "source_matchers": [f'severity="{source}"'],
                "target_matchers": [f'severity="{target}"'],
                "equal": list(_GROUPED),
            }
            for source, target in graver
        ),
    ]


def _receiver(severity: Severity, routing: Routing) -> dict[str, Any]:
    # Alertmanager 0.25 takes the address of a webhook from no file; Slack's (`api_url_file`) it does
    return {
        "name": severity.value,
        "webhook_configs": [{"url": str(routing.receivers[severity]), "send_resolved": severity != Severity.NONE}],
    }
