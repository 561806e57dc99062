"""The pages of metrics and alerts: metrics from where the code makes them, alerts from Prometheus' rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

_FAMILIES = {
    "Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
}  # fmt: skip
_ASIDE = {"tests", "benchmarks", "deploy", "docs", "examples", "client"}
_METRICS = """# Metrics

`GET /metrics` is in Prometheus' text format. Every figure is a sum over the workers of one service, and its label sets
are bounded whatever addresses callers ask for. `credit_scoring_performance_*` come from
`python -m monitoring performance --metrics FILE`, for node_exporter's text file collector.

This page is made from the code that defines the metrics. BentoML's own metrics come in addition.

| metric | type | what it is |
|---|---|---|
"""
_ALERTS = """# Alerts

Limits and windows are `alerting` in `configs/monitoring.yaml`; [the runbook](../how-to/runbook.md) says what to do.
This page is made from `deploy/prometheus/alerting.rules.yml`.

| alert | severity | for | summary |
|---|---|---|---|
"""


def metrics_page(root: Path) -> str:
    """Every metric that the code defines, with its type and help text."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(root.glob("[!.]*/**/*.py")):
        if file.relative_to(root).parts[0] not in _ASIDE:
            found |= metrics_in(file.read_text(encoding="utf-8"))
    return _METRICS + "".join(f"| `{name}` | {kind} | {text} |\n" for name, (kind, text) in sorted(found.items()))


def alerts_page(root: Path) -> str:
    """Every alert with what it is raised by and how urgent it is."""
    rules = yaml.safe_load((root / "deploy/prometheus/alerting.rules.yml").read_text(encoding="utf-8"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    return _ALERTS + "".join(
        f"| [{rule['alert']}](../how-to/runbook.md#{rule['alert'].lower()}) | {rule['labels']['severity']}"
        f" | {rule.get('for', 'at once')} | {rule['annotations']['summary']} |\n"
        for rule in alerts
    )


def metrics_in(source: str) -> dict[str, tuple[str, str]]:
    """Name, type and help text of the metrics that a module makes.

    Names are read where they stand, in the table that a loop goes through, or in the call of a function of the module.

    >>> metrics_in('for name, text in (("a", "First"), ("b", "Second")): Gauge(f"credit_scoring_{name}", text)')
    {'credit_scoring_a': ('gauge', 'First'), 'credit_scoring_b': ('gauge', 'Second')}
    """
    tree = ast.parse(source)
    reader = _Reader({node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)})
    return {name: (kind, text) for name, kind, text in reader.read(tree, _constants(tree))}


@dataclass(frozen=True)
class _Reader:
    """Goes through a module with the values of the names that are known."""

    functions: Mapping[str, ast.FunctionDef] = field(default_factory=dict)

    def read(self, node: ast.AST, known: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
        if isinstance(node, ast.For):
            for row in _rows(node):
                for statement in node.body:
                    yield from self.read(statement, {**known, **row})
            return
        if isinstance(node, ast.Call):
            yield from self._call(node, known)
        for child in ast.iter_child_nodes(node):
            yield from self.read(child, known)

    def _call(self, call: ast.Call, known: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
        called = call.func.id if isinstance(call.func, ast.Name) else ""
        arguments = [_text(argument, known) for argument in call.args]
        if called in _FAMILIES and len(arguments) > 1 and arguments[0] and arguments[1]:
            prefix = [_text(word.value, known) for word in call.keywords if word.arg == "namespace"]
            yield "_".join([*(one or "" for one in prefix), arguments[0]]), _FAMILIES[called], arguments[1]
        elif called in self.functions:
            function = self.functions[called]
            names = [argument.arg for argument in function.args.args]
            given = {name: value for name, value in zip(names, arguments, strict=False) if value}
            if given:
                yield from self.read(function, {**known, **given})


def _rows(loop: ast.For) -> Iterator[dict[str, str]]:
    """The texts of each row of a table that stands in the loop, by the loop's names."""
    if not (isinstance(loop.iter, ast.Tuple) and isinstance(loop.target, ast.Tuple)):
        yield {}
        return
    names = [name.id for name in loop.target.elts if isinstance(name, ast.Name)]
    for row in loop.iter.elts:
        cells = row.elts if isinstance(row, ast.Tuple) else []
        texts = [(name, _text(cell, {})) for name, cell in zip(names, cells, strict=False)]
        yield {name: text for name, text in texts if text is not None}


def _constants(tree: ast.Module) -> dict[str, str]:
    named = [(node.targets[0], node.value) for node in tree.body if isinstance(node, ast.Assign)]
    texts = [(name.id, _text(value, {})) for name, value in named if isinstance(name, ast.Name)]
    return {name: text for name, text in texts if text is not None}


def _text(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """The text that an expression stands for; None if that is not known before it runs."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, known)
    if isinstance(node, ast.JoinedStr):
        parts = [_text(part, known) for part in node.values]
        return None if None in parts else "".join(part for part in parts if part)
    return None
