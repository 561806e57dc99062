"""The single changes that a mutation run makes to a module, found in its syntax tree."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_PAIRS = [
    ("min", "max"),
    ("nanmin", "nanmax"),
    ("minimum", "maximum"),
    ("argmin", "argmax"),
    ("floor", "ceil"),
    ("any", "all"),
    ("zeros", "ones"),
]
_NAMES = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_UNREAD = {"annotation", "returns", "decorator_list", "ctx"}
_NEVER_RUN = {"TYPE_CHECKING", "__name__ == '__main__'"}


@dataclass(frozen=True, slots=True)
class Change:
    """One expression or statement of a file, and what takes its place."""

    file: str
    function: str
    number: int
    line: str
    before: str
    after: str
    span: tuple[int, int]

    def applied(self, source: bytes) -> bytes:
        """The source of the file with this change."""
        return source[: self.span[0]] + self.after.encode() + source[self.span[1] :]

    @property
    def words(self) -> str:
        """The change as people read it."""
        return f"{' '.join(self.before.split())} -> {self.after}"


def changes(root: Path, file: str) -> list[Change]:
    """Every change of a file."""
    source = (root / file).read_bytes()
    lines = source.splitlines(keepends=True)
    found = []
    for function, node, after in _visit(ast.parse(source), ""):
        start, end = (
            sum(map(len, lines[: (line or 0) - 1])) + (column or 0)
            for line, column in ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        )
        line, before = lines[node.lineno - 1].decode().strip(), source[start:end].decode()
        found.append(Change(file, function, node.lineno, line, before, after, (start, end)))
    return found


def _visit(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """Every node below one that can be changed, with the name of the function that holds it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    for child in _read(node):
        if isinstance(child, ast.expr | ast.stmt):
            replacements = [
                *_REPLACED.get(type(child), _unchanged)(child),
                *(_negated(child) if _decides(node, child) else ()),
            ]
            yield from ((function, child, after) for after in replacements)
        yield from _visit(child, function)


def _read(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that decide what it does: no annotation, docstring, decorator or list of exports."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in _NEVER_RUN:
        return
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in _UNREAD and not _decides_nothing(node, child):
                yield child


def _decides_nothing(node: ast.AST, child: ast.AST) -> bool:
    """Docstrings, the types of `isinstance`, and `strict`, which holds what the code before it made."""
    if isinstance(child, ast.JoinedStr):  # Python 3.11 says wrong places in it
        return True
    if isinstance(child, ast.Expr):
        return isinstance(child.value, ast.Constant)
    if isinstance(child, ast.keyword):
        return child.arg == "strict"
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance" and child is not node.args[0]


def _decides(node: ast.AST, child: ast.AST) -> bool:
    if isinstance(child, ast.Compare | ast.UnaryOp | ast.BoolOp):
        return False
    return child is getattr(node, "test", None) or (isinstance(node, ast.comprehension) and child in node.ifs)


def _negated(test: ast.AST) -> Iterator[str]:
    yield f"(not {ast.unparse(test)})"


def _unchanged(_: ast.AST) -> Iterator[str]:
    yield from ()


def _compared(node: Any) -> Iterator[str]:
    for index, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)]:
            yield f"({_with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])})"


def _operated(node: Any) -> Iterator[str]:
    if type(node.op) in _OPERATORS:
        text = _with(node, op=_OPERATORS[type(node.op)]())
        yield text if isinstance(node, ast.AugAssign) else f"({text})"


def _bare(node: Any) -> Iterator[str]:
    yield f"({ast.unparse(node.operand)})"


def _named(node: Any) -> Iterator[str]:
    field = "id" if isinstance(node, ast.Name) else "attr"
    if getattr(node, field) in _NAMES:
        yield _with(node, **{field: _NAMES[getattr(node, field)]})


def _called(node: Any) -> Iterator[str]:
    """A call without one of its options, which are numbers, switches and None."""
    for keyword in node.keywords:
        if (
            isinstance(keyword.value, ast.Constant)
            and not isinstance(keyword.value.value, str)
            and keyword.arg != "strict"
        ):
            yield _with(node, keywords=[other for other in node.keywords if other is not keyword])


def _constant(node: Any) -> Iterator[str]:
    """Another value of the same type. A text with blanks is a message, whose wording decides nothing."""
    match node.value:
        case bool(value):
            yield str(not value)
        case int(value):
            yield str(value + 1)
        case float(value):
            yield str(value * 2 or 1.0)
        case str(value) if value and " " not in value:
            yield repr(f"{value}_")


def _returned(node: Any) -> Iterator[str]:
    if node.value is not None and ast.unparse(node.value) != "None":
        yield "return None"


def _expressed(node: Any) -> Iterator[str]:
    if isinstance(node.value, ast.Call | ast.Await):
        yield "pass"


_REPLACED: dict[type[ast.AST], Callable[[Any], Iterator[str]]] = {
    ast.Compare: _compared,
    ast.BinOp: _operated,
    ast.BoolOp: _operated,
    ast.AugAssign: _operated,
    ast.UnaryOp: _bare,
    ast.Name: _named,
    ast.Attribute: _named,
    ast.Call: _called,
    ast.Constant: _constant,
    ast.Return: _returned,
    ast.Expr: _expressed,
    ast.Raise: lambda _: iter(["pass"]),
    ast.Break: lambda _: iter(["continue"]),
    ast.Continue: lambda _: iter(["break"]),
}


def _with(node: ast.AST, **fields: object) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return ast.unparse(changed)
