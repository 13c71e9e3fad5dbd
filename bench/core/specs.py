"""What users type, read into words: eps, eps grids, attack lists."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bench.core.types import UserError


def _exact(written: str) -> Fraction:
    top, *bottom = written.split("/")
    # float first: a Fraction would build 1e999999999 digit by digit.
    if len(bottom) > 1 or not all(math.isfinite(float(part)) for part in (top, *bottom)):
        raise ValueError
    return Fraction(top) / Fraction(bottom[0]) if bottom else Fraction(top)


def parse_eps(written: str) -> float:
    """Read "8/255", "0.031" or "0" as a float.

    Raises:
        UserError: not a number, negative, not finite, or over zero.
    """
    try:
        value = float(_exact(written))
    except ZeroDivisionError:
        raise UserError(f"eps {written!r} divides by zero: write a number such as 8/255") from None
    except (ValueError, OverflowError):
        raise UserError(f"eps {written!r} is not a number: write one such as 8/255 or 0.3") from None
    if value < 0:
        raise UserError(f"eps {written!r} is not a size: it must be at least 0")
    return value


def spelled(eps: Fraction, like: str) -> str:
    """An eps as text in the manner of another: in 255ths where that is (and comes out even), or as a decimal."""
    _, over, bottom = like.partition("/")
    if not over:
        return f"{float(eps):.6g}"
    text = f"{float(eps * Fraction(bottom)):.6g}/{bottom.strip()}" if eps else "0"
    return text if _exact(text) == eps else str(eps)


def parse_eps_grid(written: str) -> list[tuple[float, str]]:
    """Read "0:16/255:17" (start:stop:count, both ends in) or "0,2/255,4/255" as (eps, as written) pairs, ascending.

    Raises:
        UserError: a part is not an eps, the count is not a whole number of at least 2, or the grid is empty.
    """
    if ":" not in written:
        parts = [part.strip() for part in written.split(",") if part.strip()]
        if not parts:
            raise UserError("--eps is empty: write a list such as 0,2/255,4/255 or a range such as 0:16/255:17")
        return sorted({parse_eps(part): part for part in parts}.items())
    pieces = written.split(":")
    if len(pieces) != 3 or not pieces[2].isdecimal() or int(pieces[2]) < 2:
        raise UserError(f"eps range {written!r} is not start:stop:count: write one such as 0:16/255:17")
    low, high, count = parse_eps(pieces[0]), parse_eps(pieces[1]), int(pieces[2])
    if high <= low:
        raise UserError(f"eps range {written!r} does not rise: write the smaller end first")
    # Exact where the ends are fractions, so that 0:16/255:17 holds 8/255 itself.
    first, last = _exact(pieces[0]), _exact(pieces[1])
    grid = [first + (last - first) * step / (count - 1) for step in range(count)]
    like = next((piece for piece in pieces[:2] if "/" in piece), pieces[0])
    return [(float(value), spelled(value, like)) for value in grid]


_EXAMPLES = {
    "attack": "pgd(steps=100),cw",
    "probe": "match_rate(limit=2000),cosine",
    "detector": "kd(per_class=500),lid",
}


@dataclass(frozen=True)
class AttackSpec:
    """One entry of `--attacks` or `--probes`: a name and the fields that the user set."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inside = ",".join(f"{name}={value!r}" for name, value in self.fields)
        return f"{self.name}({inside})" if inside else self.name


def _split(written: str, kind: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for letter in written:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    if depth:
        raise UserError(f"{kind}s {written!r}: brackets do not match: write them as {_EXAMPLES[kind]}")
    return [part.strip() for part in [*parts, current]]


def _literal(node: ast.expr, spec: str, kind: str) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        top, bottom = _literal(node.left, spec, kind), _literal(node.right, spec, kind)
        if isinstance(top, int | float) and isinstance(bottom, int | float) and bottom:
            return top / bottom
    try:
        value = ast.literal_eval(node)
        value = tuple(value) if isinstance(value, list) else value
        hash(value)
    except (ValueError, TypeError, SyntaxError):
        example = _EXAMPLES[kind].partition(",")[0]
        raise UserError(f"{kind} {spec!r}: only literal arguments are read: write {example}") from None
    return value


def parse_attacks(written: str, kind: str = "attack") -> list[AttackSpec]:
    """Read "pgd(steps=100),cw,foolbox:NAME(a=1)" into specs, in order; `kind` "probe" reads `--probes`.

    Fractions such as 2/255 are literals; a list is read as a tuple.

    Raises:
        UserError: nothing is named, one is named twice, or an entry is not `name` or `name(field=literal, ...)`.
    """
    specs = [_parse_attack(part, kind) for part in _split(written, kind)] if written.strip() else []
    if not specs:
        raise UserError(f"--{kind}s is empty: name at least one, as in {_EXAMPLES[kind]} (bench list {kind}s)")
    for spec in specs:
        if specs.count(spec) > 1:
            raise UserError(f"{kind} {str(spec)!r} is named twice: name it once")
    return specs


def _parse_attack(part: str, kind: str) -> AttackSpec:
    name, bracket, rest = part.partition("(")
    name = name.strip()
    wrong = UserError(f"{kind} {part!r} is not name or name(field=value): write them as {_EXAMPLES[kind]}")
    if not name or (bracket and not rest.endswith(")")):
        raise wrong
    if not bracket:
        return AttackSpec(name)
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
    except SyntaxError:
        raise wrong from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise wrong
    names = [word.arg for word in call.keywords]
    if None in names or len(set(names)) < len(names):
        raise wrong
    return AttackSpec(name, tuple((str(word.arg), _literal(word.value, part, kind)) for word in call.keywords))
