"""What users type, read into words: eps, eps grids, and specs such as `pgd(steps=100)`."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from bench.core.text import shown
from bench.core.types import Norm, ThreatModel, UserError

# What is longer is refused before it is read: no number, grid or spec that is meant comes near.
_LONGEST_NUMBER, _LONGEST_SPEC, _LONGEST_LIST, _MOST_EPS = 400, 2_000, 50_000, 1_000
_LARGEST_EXPONENT = 300


def _exact(written: str) -> Fraction:
    """The number written, exactly.

    Raises:
        ValueError: it is none, it is not finite, or a Fraction of it would fill the memory (1e-99999999).
        ZeroDivisionError: it divides by zero.
    """
    top, *bottom = (_decimal(part) for part in written.split("/", 2))
    if len(bottom) > 1:
        raise ValueError
    return top / bottom[0] if bottom else top


def _decimal(part: str) -> Fraction:
    try:
        number = Decimal(part if len(part) <= _LONGEST_NUMBER else "")
    except InvalidOperation:
        raise ValueError from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or max(abs(exponent), abs(number.adjusted())) > _LARGEST_EXPONENT:
        raise ValueError
    return Fraction(number)


def _nearest(exact: Fraction) -> float:
    """The nearest float; a ValueError where that is 0 and the number is not, or where there is none."""
    try:
        value = float(exact)
    except OverflowError:
        raise ValueError from None
    if not value and exact:
        raise OverflowError
    return value


def parse_eps(written: str) -> float:
    """Read "8/255", "0.031" or "0" as a float.

    Raises:
        UserError: not a number, negative, not finite, over zero, or beyond what a float holds.
    """
    try:
        value = _nearest(_exact(written))
    except ZeroDivisionError:
        raise UserError(f"eps {shown(written)} divides by zero: write a number such as 8/255") from None
    except ValueError:
        raise UserError(f"eps {shown(written)} is not a number: write one such as 8/255 or 0.3") from None
    if value < 0:
        raise UserError(f"eps {shown(written)} is not a size: it must be at least 0")
    return value


def threat_model(norm: Norm, eps: float | None, written: str = "") -> ThreatModel:
    """A norm and an eps that images can have.

    Raises:
        UserError: an eps in linf is larger than the whole range of an image.
    """
    if norm == "linf" and eps is not None and eps > 1:
        raise UserError(f"eps {written or eps} in linf is beyond the range of images, 0 to 1: write 8/255 for 8")
    return ThreatModel(norm, eps, written)


def spelled(eps: Fraction, like: str) -> str:
    """An eps as text in the manner of another: in 255ths where that is (and comes out even), or as a decimal."""
    _, over, bottom = like.partition("/")
    if not over:
        return f"{float(eps):.6g}"
    text = f"{float(eps * _exact(bottom)):.6g}/{bottom.strip()}" if eps else "0"
    if _exact(text) == eps:
        return text
    return str(eps) if len(str(eps)) <= 24 else repr(float(eps))


def parse_eps_grid(written: str) -> list[tuple[float, str]]:
    """Read "0:16/255:17" (start:stop:count, both ends in) or "0,2/255,4/255" as (eps, as written) pairs, ascending.

    Raises:
        UserError: a part is not an eps, the count is not a whole number from 2 to 1,000, or the grid is empty.
    """
    if ":" not in written:
        parts = [part.strip() for part in written.split(",") if part.strip()]
        if not parts:
            raise UserError("--eps is empty: write a list such as 0,2/255,4/255 or a range such as 0:16/255:17")
        _check_count(len(parts), written)
        return sorted({parse_eps(part): part for part in parts}.items())
    pieces = written.split(":", 3)
    if len(pieces) != 3 or not pieces[2].isdecimal() or (len(pieces[2]) < 10 and int(pieces[2]) < 2):
        raise UserError(f"eps range {shown(written)} is not start:stop:count: write one such as 0:16/255:17")
    low, high = parse_eps(pieces[0]), parse_eps(pieces[1])
    if high <= low:
        raise UserError(f"eps range {shown(written)} does not rise: write the smaller end first")
    count = _check_count(int(pieces[2]) if len(pieces[2]) < 10 else _MOST_EPS + 1, written)
    # Exact where the ends are fractions, so that 0:16/255:17 holds 8/255 itself.
    first, last = _exact(pieces[0]), _exact(pieces[1])
    grid = [first + (last - first) * step / (count - 1) for step in range(count)]
    like = next((piece for piece in pieces[:2] if "/" in piece), pieces[0])
    try:
        pairs = [(_nearest(value), spelled(value, like)) for value in grid]
    except ValueError:
        pairs = []
    if len({value for value, _ in pairs}) < count:
        raise UserError(f"eps range {shown(written)} has steps too small for numbers: write a wider one")
    return pairs


def _check_count(count: int, written: str) -> int:
    if count > _MOST_EPS:
        raise UserError(f"eps {shown(written)} has more than {_MOST_EPS} points: ask for fewer")
    return count


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
