"""What users type of attacks, probes, detectors, models and data sets, read into specs such as `pgd(steps=100)`."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.core.text import shown
from bench.core.types import UserError

# What is longer is refused before it is read: no list or spec that is meant comes near.
_LONGEST_SPEC, _LONGEST_LIST = 2_000, 50_000
_EXAMPLES = {
    "attack": "pgd(steps=100),cw",
    "probe": "match_rate(limit=2000),cosine",
    "detector": "kd(per_class=500),lid",
    "model": "timm:resnet18(num_classes=10)",
    "data set": "folder:photos(crop=224)",
}


_MINIMAL = "minimal"
"""The one name that takes an attack in brackets: the smallest eps at which that attack succeeds."""


@dataclass(frozen=True)
class Spec:
    """One entry of `--attacks`, `--probes` or `--detector`: a name and the fields that the user set."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inside = ",".join(f"{name}={value!r}" for name, value in self.fields)
        return f"{self.name}({inside})" if inside else self.name


def parse_specs(written: str, kind: str = "attack") -> list[Spec]:
    """Read "pgd(steps=100),cw,foolbox:NAME(a=1)" into specs, in order; `kind` says in errors what they are.

    Fractions such as 2/255 are literals; a list is read as a tuple. Brackets and commas in quotes are letters.

    Raises:
        UserError: nothing is named, one is named twice, or an entry is not `name` or `name(field=literal, ...)`.
    """
    if len(written) > _LONGEST_LIST:
        raise UserError(f"--{kind}s has {len(written)} characters: name fewer, at most {_LONGEST_LIST} characters")
    specs = [_parsed(part, kind) for part in _split(written, kind)] if written.strip() else []
    if not specs:
        raise UserError(f"--{kind}s is empty: name at least one, as in {_EXAMPLES[kind]} (bench list {kind}s)")
    seen = set()
    for spec in specs:
        if spec in seen:
            raise UserError(f"{kind} {shown(str(spec))} is named twice: name it once")
        seen.add(spec)
    return specs


def parse_spec(written: str, kind: str) -> Spec:
    """One `name(field=literal, ...)`, whose name may hold commas, as paths do; a UserError where it is none."""
    return _parsed(written.strip(), kind)


def _split(written: str, kind: str) -> list[str]:
    """The entries of a list, at the commas outside brackets."""
    parts, depth, current = [], 0, list[str]()
    for letter, quoted in _letters(written):
        if not quoted:
            depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("".join(current))
            current = []
        else:
            current.append(letter)
    if depth:
        raise UserError(f"{kind}s {shown(written)}: brackets do not match: write them as {_EXAMPLES[kind]}")
    return [part.strip() for part in [*parts, "".join(current)]]


def _letters(written: str) -> Iterator[tuple[str, bool]]:
    """Each letter, and whether it stands in quotes. Outside brackets, as in a path, a quote is a letter."""
    depth, quote, escaped = 0, "", False
    for letter in written:
        yield letter, bool(quote)
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "'\"" and depth > 0:
            quote = letter
        else:
            depth += (letter in "([") - (letter in ")]")


def _parsed(part: str, kind: str) -> Spec:
    name, bracket, rest = part.partition("(")
    name = name.strip()
    if len(part) > _LONGEST_SPEC:
        raise UserError(f"{kind} {shown(part)} is too long: write at most {_LONGEST_SPEC} characters")
    wrong = UserError(f"{kind} {shown(part)} is not name or name(field=value): write them as {_EXAMPLES[kind]}")
    if not name or (bracket and not rest.endswith(")")):
        raise wrong
    if not bracket:
        return Spec(name)
    try:
        with warnings.catch_warnings():  # of letters that need no backslash
            warnings.simplefilter("ignore")
            call = ast.parse(f"f({rest}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise wrong
    fields = [(str(word.arg), _literal(word.value, part, kind)) for word in call.keywords if word.arg]
    if name == _MINIMAL and len(call.args) == 1:  # minimal(strong), minimal(pgd(steps=100))
        fields.insert(0, ("attack", ast.unparse(call.args[0])))
    elif call.args:
        raise wrong
    if len(fields) < len(call.keywords) or len({field for field, _ in fields}) < len(fields):
        raise wrong
    return Spec(name, tuple(fields))


def _literal(node: ast.expr, part: str, kind: str) -> Any:
    """The value that is written; a UserError where it is not a literal."""
    try:
        return _value(node)
    except OverflowError:
        raise UserError(f"{kind} {shown(part)} has a number that is too large: write a smaller one") from None
    except (ValueError, TypeError, ArithmeticError, SyntaxError, RecursionError, MemoryError):
        example = _EXAMPLES[kind].partition(",")[0]
        raise UserError(f"{kind} {shown(part)}: only literal arguments are read: write {example}") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        top, bottom = _value(node.left), _value(node.right)
        if isinstance(top, int | float) and isinstance(bottom, int | float):
            return top / bottom
    if isinstance(node, ast.List | ast.Tuple):
        return tuple(map(_value, node.elts))
    value = ast.literal_eval(node)
    hash(value)
    if abs(value) >= 2**63 if isinstance(value, int) else isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    return value
