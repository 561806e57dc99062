"""Export of a whole scorer as one SQL statement, from raw columns to decisions; reasons are not in it.

The margin has the bits of the service, and it alone decides: each cut-off of a PD becomes the lowest margin whose PD
reaches it. So an exponential that differs in its last bit changes no decision.
"""

from __future__ import annotations

import math
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.portfolio import Portfolio
from features.request import LONGEST_LEVEL
from features.schema import MISSING_WORDS, Column, ColumnKind, Order, Schema
from features.validation import WHOLE_WITHIN
from scoring.errors import ExportError
from scoring.model import Calibration
from scoring.policy import DecisionKind, RiskLevel, column_shares
from scoring.scorer import Scorer
from scoring.sql import (
    Dialect,
    Formulas,
    Query,
    chained,
    counted,
    identifier,
    listed,
    number,
    plus,
    quoted,
    rounded,
    times,
    told,
    when,
)
from scoring.store import StoredModel
from scoring.trees import ZERO, Tree, read_trees

RESULTS = (
    "status", "margin", "probability", "prediction", "decision", "risk_level", "score", "missing", "unknown",
    "unknown_columns", "withheld", "model_version", "errors",
)  # fmt: skip
"""The columns of the decisions, after the identifier."""

_RAW = "raw"
_CLIENT_ID = "client_id"
_LONGEST_NAME = 63
"""Bytes of a name in PostgreSQL, which cuts off the others."""
_SYSTEM_NAMES = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
_TYPES = {ColumnKind.CATEGORY: "text", ColumnKind.DATE: "date"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a statement is written for.

    Attributes
    ----------
    dialect : the database
    table : the table of applications, with its schema before a dot if need be
    identifier : the column that names the applicants
    """

    dialect: Dialect
    table: str
    identifier: str

    @classmethod
    def of(cls, portfolio: Portfolio, dialect: Dialect, *, table: str, identifier: str | None = None) -> Target:
        """The target of a portfolio; ExportError where the database cannot hold its columns."""
        identity = portfolio.declared.identity
        # A database has no column without a name.
        declared = identity.column if identity and identity.column else _CLIENT_ID
        target = cls(dialect, table, declared if identifier is None else identifier)
        target.check(portfolio)
        return target

    @property
    def source(self) -> str:
        """The table as it is written."""
        return ".".join(map(identifier, self.table.split(".")))

    def check(self, portfolio: Portfolio) -> None:
        """Raise ExportError where the database cannot tell the columns of a portfolio apart, or name them."""
        names = [self.identifier, *(column.name for column in portfolio.schema)]
        for name in (*names, *self.table.split(".")):
            if fault := self._fault(name):
                raise ExportError(f"{self.dialect} takes no column or table {name!r}: {fault}")
        if self.identifier in RESULTS:
            raise ExportError(f"the identifier {self.identifier} has the name of a result: name another column")
        folded = [name if self.dialect is Dialect.POSTGRESQL else _lower(name) for name in names]
        if twice := sorted({name for name, one in zip(names, folded, strict=True) if folded.count(one) > 1}):
            raise ExportError(f"{self.dialect} cannot tell these columns apart: {', '.join(twice)}")

    def _fault(self, name: str) -> str | None:
        if not name:
            return "it is empty"
        if "\0" in name:
            return "it has a NUL character"
        if self.dialect is Dialect.POSTGRESQL and len(name.encode()) > _LONGEST_NAME:
            return f"a name has at most {_LONGEST_NAME} bytes"
        if self.dialect is Dialect.POSTGRESQL and name in _SYSTEM_NAMES:
            return "PostgreSQL has a column of this name in every table"
        return None


def statement(model: StoredModel, target: Target) -> str:
    """The statement that decides on every row of the table, the same bytes for the same model and target.

    ExportError for linear trees, for random forests, and for levels with a NUL character.
    """
    scorer, query = model.scorer, Query(target.dialect)
    trees = read_trees(scorer.artefact.model_text, most_leaves=sys.maxsize)
    if trees is None:
        raise ExportError("linear trees and random forests cannot be exported: the model must be one of plain trees")
    inputs = _Inputs(query, scorer, target)
    features = _features(query, scorer, inputs)
    margin = _margin(query, trees, features)
    results = {
        "margin": margin,
        **_calibrated(query, scorer, margin),
        **_decided(query, _Known(scorer, features), scorer, margin),
        "model_version": quoted(model.version),
    }
    rejected = inputs.rejected
    columns = {
        target.identifier: query.take("id", f"{_RAW}.{identifier(target.identifier)}"),
        "status": f"CASE WHEN {rejected} THEN 'rejected' ELSE 'scored' END",
        **{name: f"CASE WHEN NOT {rejected} THEN {results[name]} END" for name in RESULTS if name in results},
        "model_version": results["model_version"],
        "errors": inputs.errors,
    }
    selected = query.select(columns, " ".join([f"{target.source} AS {_RAW}", *inputs.joins]))
    if "\0" in selected:
        raise ExportError("a level has a NUL character, which a statement cannot hold")
    return _header(model, target) + selected


def table_statement(portfolio: Portfolio, target: Target) -> str:
    """The statement that creates the table which the exported statement reads."""
    identity = portfolio.declared.identity
    whole = identity is not None and identity.column == target.identifier and identity.kind == "whole"
    columns = [f"{identifier(target.identifier)} {'bigint' if whole else 'text'}"]
    columns += [f"{identifier(one.name)} {_TYPES.get(one.kind, 'double precision')}" for one in portfolio.schema]
    return f"CREATE TABLE {target.source} (\n  " + ",\n  ".join(columns) + "\n);\n"


def _header(model: StoredModel, target: Target) -> str:
    artefact = model.scorer.artefact
    lines = [
        f"Model: {model.name}:{model.version}",
        f"Digest: {artefact.digest}",
        f"Portfolio: {artefact.portfolio.name}",
        f"Dialect: {target.dialect}",
        "The decisions of the service for every row, without reasons; a row that breaks a declared rule is rejected.",
    ]
    if target.dialect is Dialect.POSTGRESQL:
        lines.append("Run SET jit = off first: compiling this statement takes longer than deciding on 100,000 rows.")
    return "".join(f"-- {' '.join(line.split())}\n" for line in lines)  # a line end would leave the comment


class _Inputs:
    """The raw columns of a query: cleaned numbers, codes of categories, and the rules that a row breaks.

    Attributes
    ----------
    numbers, codes : the names of the cleaned numeric columns and of the category codes
    rejected, errors : the names of whether a row breaks a rule, and of what it breaks
    joins : what the source is joined with, for large vocabularies
    """

    def __init__(self, query: Query, scorer: Scorer, target: Target) -> None:
        self._query, self._target = query, target
        state, schema = scorer.artefact.features, scorer.artefact.portfolio.schema
        self.joins: list[str] = []
        known = {column.name: self._known(column) for column in schema.numeric}
        self.numbers = {name: self._clipped(one, state.clip.get(name)) for name, one in known.items()}
        self._texts = {column.name: query.take("t", self._text(column)) for column in schema.categorical}
        self._gone = {column.name: self._missing(column) for column in schema.categorical}
        read = [name for name in scorer.features if name in self._texts]
        self.codes = {name: self._code(schema[name], state.vocabularies[name]) for name in read}
        rules = [rule for column in schema.numeric for rule in _number_rules(column, known[column.name])]
        for column in schema.categorical:
            rules += _level_rules(column, self._texts[column.name], self._gone[column.name])
        rules += [_order_rule(order, schema, known) for order in schema.orders]
        broken = chained("OR", [f"({condition})" for condition, _ in rules], "FALSE")
        self.rejected = query.define("r", f"{broken} IS TRUE")
        self.errors = query.define("e", f"CASE WHEN {self.rejected} THEN {told(rules)} END")

    def indicator(self, column: str, level: str) -> str:
        """Whether a category has a level: 1 or 0, NULL where it is missing."""
        text, gone = self._texts[column], self._gone[column]
        return f"CASE WHEN NOT {gone} THEN {when(f'{text} = {quoted(level)}', number(1))} END"

    def _raw(self, column: Column, kind: str) -> str:
        return f"CAST({_RAW}.{identifier(column.name)} AS {kind})"

    def _known(self, column: Column) -> str:
        """A raw number, NULL where it is missing or a code for it."""
        if column.kind is ColumnKind.DATE:
            day = self._raw(column, "date")
            raw = (
                f"CASE WHEN isfinite({day}) THEN CAST({day} - {_EPOCH} AS float8) "
                f"WHEN {day} > {_EPOCH} THEN {_INFINITY} WHEN {day} < {_EPOCH} THEN -{_INFINITY} END"
            )
        else:
            raw = f"nullif({self._raw(column, 'float8')}, 'NaN'::float8)"
        taken = self._query.take("x", raw)
        if not column.missing:
            return taken
        codes = listed([number(float(code)) for code in column.missing])
        return self._query.define("k", f"CASE WHEN {taken} IN {codes} THEN NULL ELSE {taken} END")

    def _clipped(self, known: str, bounds: tuple[float, float] | None) -> str:
        low, high = bounds or (-math.inf, math.inf)
        ends = f" WHEN {known} < {number(low)} THEN {number(low)}" if low > -math.inf else ""
        ends += f" WHEN {known} > {number(high)} THEN {number(high)}" if high < math.inf else ""
        return self._query.define("c", f"CASE{ends} ELSE {known} END" if ends else known)

    def _text(self, column: Column) -> str:
        text = self._raw(column, "text")
        if self._target.dialect is Dialect.POSTGRESQL:
            text += ' COLLATE "C"'  # a database may sort and fold by other rules
        return _coded(text) if column.coded else text

    def _missing(self, column: Column) -> str:
        """Whether a text means a missing value, as `Column.is_missing` says."""
        text = self._texts[column.name]
        stated = self._query.define("b", f"trim({text}, {_BLANKS})")
        words = f"translate({stated}, {quoted(string.ascii_uppercase)}, {quoted(string.ascii_lowercase)})"
        missing = [f"{words} IN {listed(sorted(map(quoted, MISSING_WORDS)))}"]
        missing += [f"{stated} IN {listed([quoted(str(code)) for code in column.missing])}"] if column.missing else []
        meant = f"({' OR '.join(missing)})"
        if column.levels:
            meant += f" AND {stated} NOT IN {listed(list(map(quoted, column.levels)))}"
        return self._query.define("g", f"({text} IS NULL OR ({meant}))")

    def _code(self, column: Column, levels: Sequence[str]) -> str:
        text, gone, found = self._texts[column.name], self._gone[column.name], self._found(column, levels)
        codes = listed([quoted(str(code)) for code in column.missing])
        missing = f"WHEN {text} IN {codes} OR ({found} IS NULL AND {gone}) THEN NULL"
        return self._query.define("c", f"CASE {missing} ELSE coalesce({found}, {number(len(levels))}) END")

    def _found(self, column: Column, levels: Sequence[str]) -> str:
        """The position of a category's text among the levels, NULL where it is none of them."""
        coded = [(quoted(level), number(code)) for code, level in enumerate(levels)]
        if not coded:
            return "CAST(NULL AS float8)"
        if len(coded) <= _MOST_CASES:
            cases = " ".join(f"WHEN {level} THEN {code}" for level, code in coded)
            return self._query.define("l", f"CASE {self._texts[column.name]} {cases} END")
        alias, rows = f"levels{len(self.joins)}", ", ".join(f"({level}, {code})" for level, code in coded)
        self.joins.append(f"LEFT JOIN (VALUES {rows}) AS {alias}(level, code) ON {alias}.level = {self._text(column)}")
        return self._query.take("l", f"{alias}.code")


_EPOCH = "DATE '1970-01-01'"
_INFINITY = number(math.inf)
# What str.strip removes. Written by numbers: a line end in a file of SQL may be changed on the way.
_BLANKS = "(" + " || ".join(
    f"chr({code})"
    for code in (*range(9, 14), *range(28, 33), 133, 160, 5760, *range(8192, 8203), 8232, 8233, 8239, 8287, 12288)
) + ")"  # fmt: skip
_MOST_CASES = 100
"""Levels of a category that are compared one by one; more of them are joined."""


def _coded(text: str) -> str:
    """Whole numbers in their usual writing, as files are read: 2 for 2.0 and 02."""
    stated = f"trim({text}, {_BLANKS})"
    whole = f"CAST(CAST(regexp_replace({stated}, '[.].*$', '') AS bigint) AS text)"
    return f"CASE WHEN {stated} ~ '^[+-]?[0-9]{{1,18}}([.]0*)?$' THEN {whole} ELSE {text} END"


def _number_rules(column: Column, known: str) -> list[tuple[str, str]]:
    finite = f"abs({known}) < {_INFINITY}"
    rules = [(f"abs({known}) = {_INFINITY}", "must be finite")]
    if column.required:
        rules.append((f"{known} IS NULL", "is required"))
    if column.whole:
        rules.append((f"{finite} AND abs({known} - round({known})) > {number(WHOLE_WITHIN)}", "must be a whole number"))
    outside = [f"NOT {bound}" for bound in _within(column, known)]
    if outside:
        rules.append((f"{finite} AND ({' OR '.join(outside)})", f"must be {column.range}"))
    return [(condition, f"{column.name}: {rule}") for condition, rule in rules]


def _within(column: Column, known: str) -> list[str]:
    low = [f"{known} >= {number(column.low)}"] if column.low > -math.inf else []
    return [*low, *([f"{known} <= {number(column.high)}"] if column.high < math.inf else [])]


def _level_rules(column: Column, text: str, gone: str) -> list[tuple[str, str]]:
    required = [(gone, f"{column.name}: is required")] if column.required else []
    rule = f"{column.name}: must have at most {LONGEST_LEVEL} characters"
    return [*required, (f"length({text}) > {LONGEST_LEVEL}", rule)]


def _order_rule(order: Order, schema: Schema, known: Mapping[str, str]) -> tuple[str, str]:
    within = [bound for name in order.columns for bound in _within(schema[name], known[name])]
    larger = f"{known[order.smaller]} > {known[order.larger]}"
    return " AND ".join([larger, *within]), f"{order.smaller}: {order.rule}"


def _features(query: Query, scorer: Scorer, inputs: _Inputs) -> list[str]:
    """The names of the features, in the order of the model matrix."""
    portfolio = scorer.artefact.portfolio
    formulas, raw = Formulas(query, inputs.numbers, inputs.indicator), {**inputs.numbers, **inputs.codes}
    described = [portfolio.features[name] for name in scorer.features]
    return [raw[one.name] if one.expression is None else formulas.of(one.expression) for one in described]


_TREES_AT_ONCE, _MOST_STAGES = 50, 60
_DEEPEST = 30
"""Splits below each other in one expression; deeper parts of a tree are columns of their own."""


def _margin(query: Query, trees: Sequence[Tree], features: Sequence[str]) -> str:
    """The name of the sum of the trees, one added after the other, as LightGBM does."""
    at_once = max(_TREES_AT_ONCE, math.ceil(len(trees) / _MOST_STAGES))
    margin = number(0)
    for at in range(0, len(trees), at_once):
        terms = [_tree(query, tree, features) for tree in trees[at : at + at_once]]
        margin = query.define("m", " +\n    ".join([margin, *terms]))
    return margin


def _tree(query: Query, tree: Tree, features: Sequence[str]) -> str:
    nodes: dict[int, tuple[str, int]] = {~leaf: (number(value), 0) for leaf, value in enumerate(tree.value)}
    # A split stands after those above it.
    for split in reversed(range(len(tree.feature))):
        (left, one), (right, other) = nodes[tree.left[split]], nodes[tree.right[split]]
        found, depth = _split(tree, split, features[tree.feature[split]], left, right), 1 + max(one, other)
        nodes[split] = (found, depth) if depth < _DEEPEST else (query.define("n", found), 0)
    return nodes[0 if tree.feature else ~0][0]


def _split(tree: Tree, split: int, value: str, left: str, right: str) -> str:
    if tree.is_category(split):
        levels = sorted(tree.levels[int(tree.threshold[split])])
        condition = f"{value} IN {listed([number(code) for code in levels])}"
        return f"CASE WHEN {condition} THEN {left} ELSE {right} END"
    left_first = not tree.missing_goes_left(split)
    condition = f"{value} {'<=' if left_first else '>'} {number(tree.bound(split))}"
    if tree.zero_is_missing(split):
        condition += f" AND abs({value}) > {number(ZERO)}"
    first, second = (left, right) if left_first else (right, left)
    return f"CASE WHEN {condition} THEN {first} ELSE {second} END"


def lowest_margin(calibration: Calibration, probability: float) -> float:
    """The lowest margin whose PD reaches a probability; -inf where every PD does.

    >>> lowest_margin(Calibration(slope=1.0, intercept=0.0), 0.5) <= 0
    True
    """

    def reaches(margin: float) -> bool:
        return bool(calibration.probabilities(np.array([margin]))[0] >= probability)

    # Beyond these log-odds the PD changes no more.
    low, high = (_position((odds - calibration.intercept) / calibration.slope) for odds in (-720.0, 50.0))
    if reaches(_at(low)):
        return -math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(_at(middle)) else (middle, high)
    return _at(high)


def _position(value: float) -> int:
    """The place of a float64 among all of them."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(bits & _MAGNITUDE)


def _at(position: int) -> float:
    return math.copysign(float(np.int64(abs(position)).view(np.float64)), position)


_MAGNITUDE = (1 << 63) - 1


def _calibrated(query: Query, scorer: Scorer, margin: str) -> Mapping[str, str]:
    """What follows from the margin alone."""
    calibration, policy = scorer.artefact.calibration, scorer.artefact.policy
    product = query.define("z", times(number(calibration.slope), margin))
    log_odds = query.define("z", plus(product, number(calibration.intercept)))
    # Below -700 the PD is 1 whatever is added to 1; PostgreSQL stops at an exponential that vanishes.
    exponent = f"greatest(least(-{log_odds}, {number(709)}), {number(-700)})"
    factor, offset = policy.scale.line
    points = query.define("s", f"{number(offset)} - {number(factor)} * {log_odds}")
    bounds = [lowest_margin(calibration, bound) for bound in policy.level_bounds]
    better = zip(bounds, RiskLevel, strict=False)  # the worst level has no bound above it
    levels = " ".join(f"WHEN {margin} < {number(bound)} THEN {quoted(level)}" for bound, level in better)
    cutoff = number(lowest_margin(calibration, policy.cutoff))
    return {
        "probability": f"{number(1)} / ({number(1)} + exp({exponent}))",
        "prediction": f"CASE WHEN {margin} >= {cutoff} THEN 1 ELSE 0 END",
        "risk_level": f"CASE {levels} ELSE {quoted(RiskLevel.CRITICAL)} END",
        "score": f"CAST({rounded(points)} AS bigint)",
    }


class _Known:
    """What is known of a row, as `scoring.policy.Completeness` sees it.

    Attributes
    ----------
    unknown : for each category of the model, the condition that its level is one that the model does not know
    missing : for each raw column that the model reads, the condition that it is missing
    """

    def __init__(self, scorer: Scorer, features: Sequence[str]) -> None:
        self._artefact = scorer.artefact
        self._values = dict(zip(scorer.features, features, strict=True))
        places = zip(scorer.transformer.categorical, scorer.transformer.largest_codes, strict=True)
        self.unknown = {scorer.features[i]: f"{features[i]} = {number(code)}" for i, code in places}
        self.missing = {name: self._missing(name) for name in scorer.inputs}

    def _missing(self, column: str) -> str:
        described = self._artefact.portfolio.features
        members = [column] if column in self._values else [
            name for name in self._values if column in described[name].sources and not described[name].never_missing
        ]  # fmt: skip
        return f"coalesce({', '.join(self._values[name] for name in members)}) IS NULL"

    def shortfalls(self, query: Query) -> list[tuple[str, str]]:
        """The conditions that withhold an approval, and the reason of each."""
        rule, importance = self._artefact.policy.completeness, self._artefact.reference.importance
        if rule is None:
            return []
        columns = {name: self._or_unknown(name, condition) for name, condition in self.missing.items()}
        features = {name: self._or_unknown(name, f"{value} IS NULL") for name, value in self._values.items()}
        shares = column_shares(importance, list(columns), self._artefact.portfolio)
        share = f"greatest({_weighed(columns, shares)}, {_weighed(features, importance)})"
        needed = [(columns[name], f"{name} must be known") for name in rule.known if name in columns]
        return [*needed, (query.define("o", f"{share} > {number(rule.limit)}"), rule.shortfall)]

    def _or_unknown(self, name: str, condition: str) -> str:
        return f"({condition} OR {self.unknown[name]})" if name in self.unknown else condition


def _weighed(conditions: Mapping[str, str], weights: Mapping[str, float]) -> str:
    """The sum of the weights of the conditions that are true."""
    terms = [when(condition, number(weights[name])) for name, condition in conditions.items() if weights[name]]
    return chained("+", terms, number(0))


def _decided(query: Query, known: _Known, scorer: Scorer, margin: str) -> Mapping[str, str]:
    """The decision, and what is missing or unknown."""
    calibration, policy = scorer.artefact.calibration, scorer.artefact.policy
    shortfalls = known.shortfalls(query)
    short = query.define("h", chained("OR", [condition for condition, _ in shortfalls], "FALSE"))
    withheld = query.define("h", f"CASE WHEN {short} THEN {told(shortfalls)} END")
    unknown = query.define("a", counted(list(known.unknown.values())))
    names = [(condition, name) for name, condition in known.unknown.items()]
    approved = f"{margin} < {number(lowest_margin(calibration, policy.refer_from))}"
    declined = f"{margin} >= {number(lowest_margin(calibration, policy.refer_to))}"
    refer, approve, decline = map(quoted, (DecisionKind.REFER, DecisionKind.APPROVE, DecisionKind.DECLINE))
    sound = f"WHEN {approved} AND NOT {short} THEN {approve}"
    return {
        "decision": f"CASE WHEN {declined} THEN {decline} {sound} ELSE {refer} END",
        "missing": query.define("a", counted(list(known.missing.values()))),
        "unknown": unknown,
        "unknown_columns": query.define("a", f"CASE WHEN {unknown} > 0 THEN {told(names)} END"),
        "withheld": f"CASE WHEN {approved} THEN {withheld} END",
    }


def _lower(name: str) -> str:
    """A name without the case of its ASCII letters, which DuckDB does not see."""
    return name.translate(str.maketrans(string.ascii_uppercase, string.ascii_lowercase))
