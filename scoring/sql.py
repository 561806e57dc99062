"""SQL text that computes as NumPy does, in PostgreSQL and DuckDB: literals, float64 arithmetic, and queries in stages.

A missing value is NULL, where NumPy has NaN. PostgreSQL stops with an error where a result of finite numbers overflows,
vanishes or divides by zero. Every operation here looks first, and gives what IEEE 754 says: infinity, 0 or NaN.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import reduce

from features.formulas import Call, Constant, Expression, Source
from scoring.errors import ExportError


class Dialect(StrEnum):
    """A database that a query is written for."""

    POSTGRESQL = "postgresql"
    DUCKDB = "duckdb"


def number(value: float) -> str:
    """A float64 as a literal that both databases read as the same bits.

    >>> number(0.1), number(-float("inf"))
    ("'0.1'::float8", "'-Infinity'::float8")
    """
    # Without quotes 0.1 is a decimal, and what converts it may miss the nearest float64.
    stated = repr(float(value)) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    return f"'{stated}'::float8"


def quoted(value: str) -> str:
    """A text as a literal.

    >>> quoted("Driver's")
    "'Driver''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name, of any characters, as an identifier.

    >>> identifier('the "other" one')
    '"the ""other"" one"'
    """
    return '"' + name.replace('"', '""') + '"'


def listed(literals: Sequence[str]) -> str:
    """Literals as the list of an IN; a list without any holds NULL, which nothing equals."""
    return f"({', '.join(literals) or 'NULL'})"


_GROUP = 50
"""The most operands in a row: parsers and planners go one call deeper for each."""


def chained(operator: str, operands: Sequence[str], otherwise: str) -> str:
    """Operands with an operator between them, in groups; only where their grouping does not matter."""
    grouped = list(operands)
    while len(grouped) > 1:
        parts = [grouped[at : at + _GROUP] for at in range(0, len(grouped), _GROUP)]
        grouped = [f"({f' {operator} '.join(part)})" for part in parts]
    return grouped[0] if grouped else otherwise


def counted(conditions: Sequence[str]) -> str:
    """How many conditions are true."""
    return chained("+", [f"CASE WHEN {one} THEN 1 ELSE 0 END" for one in conditions], "0")


def told(conditions: Sequence[tuple[str, str]]) -> str:
    """The texts of the conditions that are true, with semicolons between them; NULL without any."""
    texts = [f"CASE WHEN {condition} THEN {quoted(f'; {said}')} ELSE '' END" for condition, said in conditions]
    return f"nullif(substr({chained('||', texts, quoted(''))}, 3), '')"


def when(condition: str, value: str) -> str:
    """A number where a condition is true, else 0."""
    return f"CASE WHEN {condition} THEN {value} ELSE {number(0)} END"


_INFINITY, _NAN = number(math.inf), "'NaN'::float8"
_UP, _DOWN = number(2.0**512), number(2.0**-512)
_HALF, _HALF_LARGEST = number(0.5), number(2.0**1023)
_BELOW_ONE = number(1 - 2.0**-53)


def _signed(infinite: str, same: str) -> str:
    return f"CASE WHEN {same} THEN {infinite} ELSE -{infinite} END"


def times(a: str, b: str) -> str:
    """The product of two columns or literals."""
    same = f"({a} > 0) = ({b} > 0)"
    # Half of the smallest float64, 2**-1075, is rounded to 0; two numbers below 1e-180 make less.
    tiny = f"{a} = 0 OR {b} = 0 OR (abs({a}) < {number(1e-180)} AND abs({b}) < {number(1e-180)})"
    return (
        f"nullif(CASE WHEN abs({a}) > 1 AND abs({b}) > 1 THEN CASE "
        f"WHEN abs(({a} * {_DOWN}) * ({b} * {_DOWN})) >= 1 THEN {_signed(_INFINITY, same)} ELSE {a} * {b} END "
        f"WHEN abs({a}) < 1 AND abs({b}) < 1 THEN CASE WHEN {tiny} THEN {number(0)} "
        f"WHEN abs(({a} * {_UP}) * ({b} * {_UP})) <= {number(2.0**-51)} THEN {number(0)} ELSE {a} * {b} END "
        f"ELSE {a} * {b} END, {_NAN})"
    )


def plus(a: str, b: str) -> str:
    """The sum of two columns or literals."""
    half = f"{a} * {_HALF} + {b} * {_HALF}"
    return (
        f"nullif(CASE WHEN abs({a}) > {_LARGE} AND abs({b}) > {_LARGE} THEN CASE WHEN {half} = {_NAN} THEN NULL "
        f"WHEN abs({half}) >= {_HALF_LARGEST} THEN {_signed(_INFINITY, f'{half} > 0')} ELSE {a} + {b} END "
        f"ELSE {a} + {b} END, {_NAN})"
    )


def minus(a: str, b: str) -> str:
    """The difference of two columns or literals."""
    return plus(a, f"(-{b})")


def over(a: str, b: str) -> str:
    """The quotient of two columns or literals, NULL where the second is 0."""
    same = f"({a} > 0) = ({b} > 0)"
    return (
        f"nullif(CASE WHEN {b} = 0 THEN NULL "
        f"WHEN abs({b}) < 1 AND abs({a}) > {number(1e-16)} THEN CASE "
        f"WHEN abs({a}) * {_HALF} >= abs({b}) * {_HALF_LARGEST} * {_BELOW_ONE} THEN {_signed(_INFINITY, same)} "
        f"ELSE {a} / {b} END "
        f"WHEN abs({b}) > 1 AND abs({a}) < 1 THEN CASE "
        f"WHEN abs({a}) * {number(2.0**1000)} <= abs({b}) * {number(2.0**-75)} THEN {number(0)} ELSE {a} / {b} END "
        f"ELSE {a} / {b} END, {_NAN})"
    )


_LARGE = number(1e290)
"""Sums of far fewer than 2**53 smaller numbers do not overflow."""
_SCALE, _UNSCALED, _SCALED_LIMIT = number(2.0**-64), number(2.0**64), number(2.0**960)


def added(values: Sequence[str]) -> str:
    """The sum of columns or literals from the first to the last, a missing one counted as 0."""
    # Beyond 1e290 the numbers are added as parts of 2**64, and those that are nothing beside them are left out.
    plain = " + ".join(f"coalesce({one}, 0)" for one in values)
    scaled = " + ".join(f"CASE WHEN abs({one}) > {number(1e-200)} THEN {one} * {_SCALE} ELSE 0 END" for one in values)
    largest = f"greatest({', '.join(f'abs({one})' for one in values)}, 0)"
    return (
        f"CASE WHEN {largest} <= {_LARGE} THEN {plain} WHEN ({scaled}) = {_NAN} THEN NULL "
        f"WHEN abs({scaled}) >= {_SCALED_LIMIT} THEN {_signed(_INFINITY, f'({scaled}) > 0')} "
        f"ELSE ({scaled}) * {_UNSCALED} END"
    )


def rounded(value: str) -> str:
    """A column rounded to a whole number, half to even."""
    # round() differs: half to even in PostgreSQL, away from 0 in DuckDB.
    floor, odd = f"floor({value})", f"floor(floor({value}) / 2) * 2 < floor({value})"
    up = f"{value} - {floor} > {_HALF} OR ({value} - {floor} = {_HALF} AND {odd})"
    return f"CASE WHEN {up} THEN {floor} + 1 ELSE {floor} END"


_MOST_COLUMNS = 1_600
# A text or identifier in quotes, or else the name of a column of a stage.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\b([a-z]+_[0-9]+)\b")


class Query:
    """A SELECT in stages: each computes columns from those of the stage before, once for each row.

    A name that a caller gets from `take` or `define` may stand in later texts.
    """

    # Without a fence PostgreSQL writes a column's text wherever a later stage names the column, which doubles the work
    # with each stage. A materialized stage would go through the disk; OFFSET 0 keeps rows passing one by one.

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[str, str] = {}
        self._stages: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def take(self, prefix: str, expression: str) -> str:
        """The name of a column that is computed from the source."""
        return self._named(prefix, expression, 0)

    def define(self, prefix: str, expression: str) -> str:
        """The name of a column that is computed from others; the same text is computed once."""
        if expression in self._stages:
            return expression
        before = max((self._stages[one] for one in self._read(expression)), default=0)
        return self._named(prefix, expression, before + 1)

    def _named(self, prefix: str, expression: str, stage: int) -> str:
        name = self._names.setdefault(expression, f"{prefix}_{len(self._texts)}")
        if name not in self._texts:
            self._texts[name], self._stages[name] = expression, stage
        return name

    def _read(self, expression: str) -> set[str]:
        """The columns of stages that a text names outside of quotes."""
        return {found for token in _TOKEN.finditer(expression) if (found := token.group(1)) in self._stages}

    def select(self, columns: Mapping[str, str], source: str) -> str:
        """The statement that selects texts under names, from the source."""
        final = ",\n  ".join(f"{expression} AS {identifier(name)}" for name, expression in columns.items())
        needed = set().union(*map(self._read, columns.values()))
        last = max(self._stages[name] for name in needed)
        stages = []
        for stage in range(last, -1, -1):
            made = [name for name in self._texts if self._stages[name] == stage and name in needed]
            needed = needed.difference(made)
            carried = [name for name in self._texts if name in needed]
            stages.append(self._stage(stage, carried, made, f"stage{stage - 1}" if stage else source))
            for name in made:
                if stage:
                    needed |= self._read(self._texts[name])
        return "WITH " + ",\n".join(reversed(stages)) + f"\nSELECT\n  {final}\nFROM stage{last};\n"

    def _stage(self, stage: int, carried: Sequence[str], made: Sequence[str], source: str) -> str:
        lines = [", ".join(carried)] if carried else []
        lines += [f"{self._texts[name]} AS {name}" for name in made]
        postgresql = self._dialect is Dialect.POSTGRESQL
        if postgresql and len(carried) + len(made) > _MOST_COLUMNS:
            raise ExportError(f"PostgreSQL has at most {_MOST_COLUMNS} columns in a query, and this model needs more")
        columns, fence = ",\n  ".join(lines), " OFFSET 0" if postgresql else ""
        return f"stage{stage} AS NOT MATERIALIZED (SELECT\n  {columns}\nFROM {source}{fence})"


class Formulas:
    """Expressions of features as columns of a query.

    Attributes
    ----------
    numbers : the names of the numeric columns in the query, missing ones NULL
    indicator : gives the text of whether a category has a level
    """

    def __init__(self, query: Query, numbers: Mapping[str, str], indicator: Callable[[str, str], str]) -> None:
        self._query = query
        self._numbers = numbers
        self._indicator = indicator

    def of(self, expression: Expression) -> str:
        """The name of the column with the values of an expression; a number is itself."""
        match expression:
            case Constant(value):
                return number(value)
            case Source(column, level):
                shown = self._numbers[column] if level is None else self._indicator(column, level)
                return self._query.define("i", shown)
            case Call(operation, arguments):
                return self._query.define("f", self._call(operation, tuple(map(self.of, arguments))))

    def _call(self, operation: str, values: tuple[str, ...]) -> str:
        if operation in _COMPARED:
            return _unless_missing(values, when(_COMPARED[operation].join(values), _ONE))
        if operation in _PAIRS:
            return _PAIRS[operation](*values)
        if operation in _PLAIN:
            return _PLAIN[operation](values)
        staged = {"weighted_mean": self._mean, "deviation": self._deviation, "product": self._product}
        return {**staged, "log1p": self._log1p}[operation](values)

    def _product(self, values: Sequence[str]) -> str:
        return reduce(lambda a, b: self._query.define("p", times(a, b)), values)

    def _mean(self, values: Sequence[str]) -> str:
        half = len(values) // 2
        weights, values = values[:half], values[half:]
        pairs = list(zip(weights, values, strict=True))
        weighted = [
            value if weight == _ONE else self._query.define("p", times(value, weight)) for weight, value in pairs
        ]
        weight = " + ".join(when(f"{value} IS NOT NULL", weight) for weight, value in pairs)
        return over(self._query.define("s", added(weighted)), self._query.define("w", weight))

    def _deviation(self, values: Sequence[str]) -> str:
        define = self._query.define
        count = define("w", " + ".join(when(f"{one} IS NOT NULL", _ONE) for one in values))
        mean = define("v", over(define("s", added(values)), count))
        centred = [define("d", minus(one, mean)) for one in values]
        squares = [define("p", times(one, one)) for one in centred]
        variance = define("v", over(define("s", added(squares)), count))
        # Infinity less infinity is missing, though neither is.
        pairs = zip(values, squares, strict=True)
        lost = " OR ".join(f"({one} IS NOT NULL AND {square} IS NULL)" for one, square in pairs)
        return f"CASE WHEN {lost} THEN NULL ELSE sqrt({variance}) END"

    def _log1p(self, values: Sequence[str]) -> str:
        [value] = values
        whole = self._query.define("u", plus(_ONE, value))
        # What rounding took from 1 + x is given back: W. Kahan's formula, within a few units of the last place.
        return (
            f"CASE WHEN {value} <= -1 THEN NULL WHEN {whole} = 1 THEN {value} WHEN {value} > {number(2.0**53)} "
            f"THEN ln({value}) ELSE ln({whole}) * ({value} / ({whole} - 1)) END"
        )


_ONE = number(1)
_COMPARED = {"less": " < ", "at_most": " <= ", "more": " > ", "at_least": " >= ", "equal": " = ", "unequal": " <> "}
_PAIRS: Mapping[str, Callable[..., str]] = {
    "ratio": over,
    "difference": minus,
    "plus": plus,
    "scaled": times,
    "coalesce": lambda a, b: f"coalesce({a}, {b})",
    "when": lambda a, b, c: f"CASE WHEN {a} IS NULL THEN NULL WHEN {a} <> 0 THEN {b} ELSE {c} END",
    "absolute": lambda a: f"abs({a})",
    "missing": lambda a: when(f"{a} IS NULL", _ONE),
    "negation": lambda a: f"CASE WHEN {a} IS NULL THEN NULL WHEN {a} = 0 THEN {_ONE} ELSE {number(0)} END",
    "clip": lambda a, low, high: _unless_missing((a, low, high), f"least(greatest({a}, {low}), {high})"),
}
_PLAIN: Mapping[str, Callable[[Sequence[str]], str]] = {
    "missing_count": lambda values: f"CAST({counted([f'{one} IS NULL' for one in values])} AS float8)",
    "total": lambda values: f"CASE WHEN coalesce({', '.join(values)}) IS NOT NULL THEN {added(values)} END",
    "minimum": lambda values: f"least({', '.join(values)})",
    "maximum": lambda values: f"greatest({', '.join(values)})",
    "every": lambda values: _unless_missing(values, when(" AND ".join(f"{one} <> 0" for one in values), _ONE)),
    "either": lambda values: _unless_missing(values, when(" OR ".join(f"{one} <> 0" for one in values), _ONE)),
}


def _unless_missing(values: Sequence[str], expression: str) -> str:
    return f"CASE WHEN {' OR '.join(f'{one} IS NULL' for one in values)} THEN NULL ELSE {expression} END"
