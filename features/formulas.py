"""Formulas of features: text over column names and a closed vocabulary, read into expressions.

A formula is a Python expression of the operations below; it is parsed and never run. A name is a numeric column or a
feature declared above; a name that is no Python word is written as a text. Missing stays missing unless the operation
says otherwise, so that every formula is computed from its own row alone.

    + - * /                              a division by 0 is missing
    < <= > >= == !=                      1 or 0; a category may be compared with one of its levels
    and, or, not                         of values that are 0 or not
    min max sum mean std(a, b, ...)      of those that are present; missing if none is
    weighted_mean(2, 1, a, b)            the weights first, then as many values
    missing(a), missing_count(a, ...)    never missing themselves
    coalesce(a, b)                       the first that is present
    when(condition, a, b)                a where the condition is not 0, else b
    abs(a), log1p(a), clip(a, low, high)
    days(later, earlier)                 the days between two dates

`*"FLAG_*"` stands for every numeric column of that pattern, `*unprotected` for every numeric column of the application
that states no protected attribute.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain

from features.errors import SchemaError
from features.schema import ColumnKind, Schema


@dataclass(frozen=True, slots=True)
class Constant:
    """A number of the formula."""

    value: float


@dataclass(frozen=True, slots=True)
class Source:
    """A numeric column; with a `level`, whether a category has that level (1 or 0, NaN where it is missing)."""

    column: str
    level: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """An operation of `features.operations` on expressions."""

    operation: str
    arguments: tuple[Expression, ...]


Expression = Constant | Source | Call

_BINARY: Mapping[type[ast.operator], str] = {ast.Add: "plus", ast.Sub: "difference", ast.Div: "ratio"}
_COMPARED: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "less", ast.LtE: "at_most", ast.Gt: "more", ast.GtE: "at_least", ast.Eq: "equal", ast.NotEq: "unequal",
}  # fmt: skip
_JOINED: Mapping[type[ast.boolop], str] = {ast.And: "every", ast.Or: "either"}
# The operation of each word, and how many values it takes; None takes any number of them.
_WORDS: Mapping[str, tuple[str, int | None]] = {
    "min": ("minimum", None),
    "max": ("maximum", None),
    "sum": ("total", None),
    "mean": ("weighted_mean", None),
    "weighted_mean": ("weighted_mean", None),
    "std": ("deviation", None),
    "missing": ("missing", 1),
    "missing_count": ("missing_count", None),
    "coalesce": ("coalesce", 2),
    "when": ("when", 3),
    "abs": ("absolute", 1),
    "log1p": ("log1p", 1),
    "clip": ("clip", 3),
    "days": ("difference", 2),
}
_COUNTS = frozenset({"missing", "missing_count"})
_PRESENT_IF_ALL_ARE = frozenset({
    "plus", "difference", "product", "scaled", "less", "at_most", "more", "at_least", "equal", "unequal", "every",
    "either", "negation", "absolute", "clip", "when",
})  # fmt: skip


def read_formula(text: str, schema: Schema, above: Mapping[str, Expression]) -> Expression:
    """The expression of a formula; SchemaError if it cannot be read or names what is not declared.

    `above` holds the features that are declared before it.
    """
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise SchemaError(f"is no formula{_where(text, error)} {_QUOTES}") from None
    except (ValueError, RecursionError, MemoryError):
        raise SchemaError(f"is no formula {_QUOTES}") from None
    expression = _Reader(schema, above, text).read(body)
    if isinstance(expression, Constant):
        raise SchemaError("reads no column")
    return expression


_QUOTES = '(a name such as "a b" or "class" needs quotes)'


def _where(text: str, error: SyntaxError) -> str:
    """The place of a fault in words; empty where Python gives none."""
    if not text.strip() or error.lineno is None:
        return ""
    # Python counts 0, or beyond the last character, where the text ends too early.
    number = _character(text, error.lineno, (error.offset or 0) - 1)
    return f" at character {number}" if error.offset and number <= len(text.rstrip()) else " at its end"


def _character(text: str, line: int, before: int) -> int:
    """The number, from 1, of a character that has so many others before it in a line of the stripped text."""
    lines = text.strip().split("\n")
    blanks = len(text) - len(text.lstrip())
    return blanks + sum(len(one) + 1 for one in lines[: line - 1]) + before + 1


def sources(expression: Expression) -> tuple[str, ...]:
    """The raw columns that an expression reads, each once, in the order of the formula."""
    match expression:
        case Source(column):
            return (column,)
        case Call(_, arguments):
            return tuple(dict.fromkeys(chain.from_iterable(map(sources, arguments))))
    return ()


def is_never_missing(expression: Expression) -> bool:
    """Whether an expression has a number in every row, such as a count of what is missing."""
    match expression:
        case Constant():
            return True
        case Call("coalesce", (_, last)):
            return is_never_missing(last)
        case Call(operation, arguments):
            return operation in _COUNTS or (operation in _PRESENT_IF_ALL_ARE and all(map(is_never_missing, arguments)))
    return False


def nodes(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it, as often as it occurs."""
    yield expression
    if isinstance(expression, Call):
        for argument in expression.arguments:
            yield from nodes(argument)


def calls_by_level(wanted: Iterable[Expression]) -> list[list[Call]]:
    """Every call in the expressions, once each, by the number of calls that it waits for."""
    calls = dict.fromkeys(node for one in wanted for node in nodes(one) if isinstance(node, Call))
    levels: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        levels[_depth(call)].append(call)
    return [levels[depth] for depth in sorted(levels)]


def _depth(expression: Expression) -> int:
    match expression:
        case Call(_, arguments):
            return 1 + max(map(_depth, arguments))
    return 0


class _Reader:
    """Reads one parsed formula."""

    def __init__(self, schema: Schema, above: Mapping[str, Expression], text: str) -> None:
        self._schema = schema
        self._above = above
        self._text = text

    def read(self, node: ast.expr) -> Expression:
        match node:
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float() as value):
                return Constant(float(value))
            case ast.Constant(value=str() as name) | ast.Name(id=name):
                return self._named(name)
            case ast.Call(ast.Name(id=word), arguments, []) if word in _WORDS:
                return self._word(word, arguments)
        return self._operated(node)

    def _operated(self, node: ast.expr) -> Expression:
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _times([self.read(operand), Constant(-1.0)])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Call("negation", (self.read(operand),))
            case ast.BinOp(op=ast.Mult()):
                return _times([self.read(factor) for factor in _factors(node)])
            case ast.BinOp(left, operator, right) if type(operator) in _BINARY:
                return self._call(_BINARY[type(operator)], [self.read(left), self.read(right)])
            case ast.BoolOp(operator, values):
                return Call(_JOINED[type(operator)], tuple(map(self.read, values)))
            case ast.Compare(left, [operator], [right]) if type(operator) in _COMPARED:
                return self._compared(left, operator, right)
        raise SchemaError(f"cannot read {ast.unparse(node)}{self._place(node)}")

    def _place(self, node: ast.expr) -> str:
        """Where an expression stands; of an operation that does not exist, also which there are."""
        line = self._text.strip().split("\n")[node.lineno - 1]
        before = len(line.encode()[: node.col_offset].decode())  # Python counts bytes
        place = f" at character {_character(self._text, node.lineno, before)}"
        match node:
            case ast.Call(ast.Name(id=word)) if word not in _WORDS:
                return f"{place}: {word} is none of {', '.join(sorted(_WORDS))}"
        return place

    def _named(self, name: str) -> Expression:
        if name in self._above:
            return self._above[name]
        if name not in self._schema:
            raise SchemaError(f"reads {name}, which is neither a declared column nor a feature above")
        column = self._schema[name]
        if not column.numeric:
            raise SchemaError(f'reads the category {name}: compare it with a level, as in {name} == "A"')
        if column.kind is ColumnKind.DATE:
            raise SchemaError(f"reads the date {name}: only days(later, earlier) and missing() take dates")
        return Source(name)

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Expression:
        match left, right:
            case ast.Name(id=name) | ast.Constant(value=str() as name), ast.Constant(value=level) if (
                name in self._schema and not self._schema[name].numeric and isinstance(operator, ast.Eq | ast.NotEq)
            ):
                text, declared = str(level), self._schema[name].levels
                if declared and text not in declared:
                    raise SchemaError(f"compares {name} with a level that is not declared: {text}")
                indicator = Source(name, text)
                return indicator if isinstance(operator, ast.Eq) else Call("negation", (indicator,))
        return self._call(_COMPARED[type(operator)], [self.read(left), self.read(right)])

    def _word(self, word: str, nodes: list[ast.expr]) -> Expression:
        operation, arity = _WORDS[word]
        read = self._date if word in ("days", "missing") else self.read
        values = [value for node in nodes for value in self._spread(node, read)]
        if not values or (arity is not None and len(values) != arity):
            raise SchemaError(f"{word} takes {arity or 'some'} value{'' if arity == 1 else 's'}, not {len(values)}")
        if word == "mean":
            values = [*[Constant(1.0)] * len(values), *values]
        if word == "weighted_mean":
            weights = values[: len(values) // 2]
            if len(values) % 2 or not all(isinstance(one, Constant) and one.value > 0 for one in weights):
                raise SchemaError("weighted_mean takes positive weights, then as many values")
        return self._call(operation, values)

    def _date(self, node: ast.expr) -> Expression:
        match node:
            case ast.Name(id=name) | ast.Constant(value=str() as name) if (
                name in self._schema and self._schema[name].kind is ColumnKind.DATE
            ):
                return Source(name)
        return self.read(node)

    def _spread(self, node: ast.expr, read: Callable[[ast.expr], Expression]) -> Iterator[Expression]:
        match node:
            case ast.Starred(ast.Name(id="unprotected")):
                yield from self._chosen(self._unprotected, "unprotected")
            case ast.Starred(ast.Constant(value=str() as pattern)):
                yield from self._chosen(lambda name: fnmatchcase(name, pattern), pattern)
            case _:
                yield read(node)

    def _unprotected(self, name: str) -> bool:
        column = self._schema[name]
        return not column.protected and not column.history

    def _chosen(self, wanted: Callable[[str], bool], said: str) -> Iterator[Expression]:
        numbers = (column for column in self._schema.numeric if column.kind is not ColumnKind.DATE)
        found = [Source(column.name) for column in numbers if wanted(column.name)]
        if not found:
            raise SchemaError(f"no numeric column is like {said}")
        yield from found

    @staticmethod
    def _call(operation: str, arguments: list[Expression]) -> Expression:
        if all(isinstance(one, Constant) for one in arguments):
            raise SchemaError("computes with numbers alone: write their result")
        return Call(operation, tuple(arguments))


def _factors(node: ast.expr) -> list[ast.expr]:
    """The factors of a product from left to right: a * b * c is (a * b) * c, in one operation."""
    match node:
        case ast.BinOp(left, ast.Mult(), right):
            return [*_factors(left), right]
    return [node]


def _times(factors: list[Expression]) -> Expression:
    constants = [factor for factor in factors if isinstance(factor, Constant)]
    if len(constants) == len(factors):
        if len(constants) == 2 and constants[1].value == -1.0:  # a minus before a number
            return Constant(-constants[0].value)
        raise SchemaError("computes with numbers alone: write their result")
    if len(factors) == 2 and constants:
        value = next(factor for factor in factors if not isinstance(factor, Constant))
        return Call("scaled", (constants[0], value))
    return Call("product", tuple(factors))
