"""What users type of sizes, read into numbers: eps and eps grids."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from bench.core.text import shown
from bench.core.types import Norm, ThreatModel, UserError

# What is longer is refused before it is read: no number or grid that is meant comes near.
_LONGEST_NUMBER, _MOST_EPS = 400, 1_000
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
