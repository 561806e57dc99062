"""Writes a draft as the text of a portfolio file: one column a line, the same bytes for the same draft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from features.portfolio import Portfolio
from features.schema import MOST_LEVELS
from jobs.settings import MARK
from training.portfolio.columns import ColumnDraft
from training.portfolio.drafting import Draft, Role
from training.portfolio.labelled_file import LabelledFile
from training.settings import PolicySettings

_LONGEST_WHOLE = 1e15
_FOUR_FIFTHS = 0.8
_COSTS = "what costs a bad application that is approved, and a good one that is declined? these are an example's"
_LEVELS = "from which PDs on is the risk MEDIUM, HIGH, CRITICAL? shown: half, once and twice a default rate of 8 %"
_AGES = "how much less may one band of age be approved than another? the young often default more"
_REQUIRED = "which columns must every application state? write required: true there; none says so yet"
_HEAD = (
    "# A draft of `python -m training init`. Answer each comment that begins with a question mark, and take it away:",
    "# nothing is trained before. Bounds are rounded; levels of fewer than 5 rows are not written.",
)


def draft_text(
    draft: Draft, file: LabelledFile, *, name: str, policy: PolicySettings, schema: str | None = None
) -> str:
    """Return the YAML text of a draft.

    Parameters
    ----------
    name : the portfolio's name
    policy : the costs and risk levels that are shown and asked about
    schema : where an editor finds the JSON Schema of portfolio files, seen from the file; None names none
    """
    head = [f"# yaml-language-server: $schema={schema}"] if schema else []
    return "".join(f"{line}\n" for line in [*head, *_HEAD, *_body(draft, file, name, policy)])


def _body(draft: Draft, file: LabelledFile, name: str, policy: PolicySettings) -> Iterator[str]:
    yield from _questions(draft.questions)
    yield f"name: {scalar(name)}"
    yield from _identity(draft.identity)
    yield from _questions(draft.outcome.questions)
    yield f"outcome: {flow(_outcome(draft.outcome))}"
    if draft.decided_on is not None:
        yield f"decided_on: {scalar(draft.decided_on)}  {MARK} is it the day of the application?"
    yield f"files: {flow(_files(file))}"
    yield ""
    yield from _rules(draft, policy)
    yield ""
    if not any(column.required for column in draft.columns):
        yield from _questions([_REQUIRED])
    yield "columns:"
    for column in draft.columns:
        yield from _questions([f"{column.name}: {question}" for question in column.questions], "  ")
        if not column.left_out:
            yield f"  {scalar(column.name)}: {flow(_declared(column))}"


def _rules(draft: Draft, policy: PolicySettings) -> Iterator[str]:
    """The lender's own rules, which no file tells."""
    yield "training:   # laid over configs/training.yaml"
    yield "  policy:"
    yield from _questions([_COSTS], "    ")
    yield f"    cost_fn: {scalar(policy.cost_fn)}"
    yield f"    cost_fp: {scalar(policy.cost_fp)}"
    yield from _questions([_LEVELS], "    ")
    yield f"    level_bounds: {flow(list(policy.level_bounds))}"
    if any("age" in (column.protected or {}) for column in draft.columns):
        yield from _questions([_AGES], "  ")
        yield f"  gates: {{fairness: {{limits: {{age: {scalar(_FOUR_FIFTHS)}}}}}}}"


def _questions(questions: Sequence[str], indent: str = "") -> Iterator[str]:
    return (f"{indent}{MARK} {_one_line(question)}" for question in questions)


def _one_line(text: str) -> str:
    """The text without line ends and other characters that are not printed."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _identity(role: Role | None) -> Iterator[str]:
    if role is None:
        yield "identity: null   # no column names an application"
        return
    yield from _questions(role.questions)
    yield f"identity: {flow({'column': role.column, 'kind': 'whole' if role.whole else 'text'})}"


def _outcome(role: Role) -> dict[str, Any]:
    return {"column": role.column, "bad": list(role.bad), "good": list(role.good)}


def _files(file: LabelledFile) -> dict[str, Any]:
    found = {"train": file.path.stem}
    if file.separator != ",":
        found["separator"] = file.separator
    if file.decimal != ".":
        found["decimal"] = file.decimal
    return found


def _declared(column: ColumnDraft) -> dict[str, Any]:
    """What is said of a column, in one order, without what goes without saying."""
    listed = column.levels or not column.coded
    values = {
        "kind": column.kind.value,
        "unit": column.unit,
        "low": column.low,
        "high": column.high,
        "required": column.required or None,
        "missing": list(column.missing) or None,
        "protected": _protected(column.protected),
        "coded": None if listed else True,
        "levels": list(column.levels) or None,
        "most_levels": column.most_levels or (len(column.levels) if len(column.levels) > MOST_LEVELS else None),
        "description": column.description,
    }
    return {key: value for key, value in values.items() if value not in (None, "")}


def _protected(stated: Mapping[str, Mapping[str, Any]] | None) -> Any:
    if not stated:
        return None
    if any(stated.values()):
        return {attribute: dict(parts) for attribute, parts in stated.items()}
    return list(stated) if len(stated) > 1 else next(iter(stated))


_REVIEW = "review the words with whoever answers for them, and join the groups that tell the same story"


def reasons_text(portfolio: Portfolio) -> str:
    """Return the draft of a portfolio's `reasons` as YAML: a group for each column, with its description as the words.

    A feature of several columns goes to the group of the first. What rests on a protected attribute is left out.
    """
    barred = portfolio.schema.protected(portfolio.schema.attributes)
    columns = {column.name: column.description for column in portfolio.schema if column.name not in barred}
    features: dict[str, list[str]] = {name: [] for name in columns}
    for feature in portfolio.catalogue:
        if barred.isdisjoint(feature.sources) and len(feature.sources) > 1:
            features[feature.sources[0]].append(feature.name)
    lines = ["reasons:", *_questions([_REVIEW], "  ")]
    lines += [f"  missing: {flow(_worded('M00', 'Information that the decision needs is missing'))}", "  groups:"]
    for number, (name, description) in enumerate(columns.items(), start=1):
        also = {"features": features[name]} if features[name] else {}
        group = {**_worded(f"R{number:02d}", description), "columns": [name], **also}
        lines.append(f"    {scalar(name)}: {flow(group)}")
    return "".join(f"{line}\n" for line in lines)


def _worded(code: str, words: str) -> dict[str, Any]:
    return {"code": code, "wording": {"en": _one_line(words)}}


def flow(value: Any) -> str:
    """Return a value in YAML's flow style.

    >>> flow({"kind": "count", "low": 0.0, "missing": [96.0, 98.5], "levels": ["N", "a, b"]})
    '{kind: count, low: 0, missing: [96, 98.5], levels: ["N", "a, b"]}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(quoted(one) if isinstance(one, str) else flow(one) for one in value) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Return one value as YAML: a text is quoted unless it is a plain word that YAML reads as itself.

    >>> scalar("TARGET"), scalar("no"), scalar("a: b"), scalar(1e9), scalar(0.00001)
    ('TARGET', '"no"', '"a: b"', '1000000000', '1.0e-05')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    plain = value.replace("_", "").replace("-", "").replace(".", "").isalnum() and value.isascii()
    return value if plain and value[0].isalpha() and yaml.safe_load(value) == value else quoted(value)


def _number(value: float) -> str:
    """A number as YAML 1.1 reads one: a mantissa with a point, an exponent with a sign."""
    if value.is_integer() and abs(value) < _LONGEST_WHOLE:
        return str(int(value))
    mantissa, exponent, power = f"{value:.12g}".partition("e")
    return f"{mantissa}{'' if not exponent or '.' in mantissa else '.0'}{exponent}{power}"


def quoted(text: str) -> str:
    r"""Return a text in double quotes.

    >>> print(quoted('say "a"' + chr(10) + chr(0x1F600)))
    "say \"a\"\x0a😀"
    """
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
