"""The place of the largest score, and what is made of it: one-hot vectors, rows of tables. Rules for `BackwardMode`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.ops.stand_ins.mode import BackwardMode, Operation, replaced, stand_for, stand_in_of, through, tracked

CHOICE = "_bench_choice"
"""The attribute of places that holds the scores by which they were chosen."""


def chosen(mode: BackwardMode, call: Operation) -> Any:
    """The place of the largest or smallest: kept in mind for the one-hot vector or the look-up that is made of it."""
    x, dim = call.args[0], call.argument(1, "dim")
    if not tracked(x) or not isinstance(dim, int) or isinstance(dim, bool):
        return NotImplemented
    result = call()
    place = result if isinstance(result, Tensor) else result[1]
    scores = x.movedim(dim, -1) * (-1 if "min" in call.name else 1)
    # What raises all scores alike changes no choice.
    setattr(place, CHOICE, scores - scores.mean(-1, keepdim=True))
    return result


def same_places(mode: BackwardMode, call: Operation) -> Any:
    """Another shape of the same whole numbers."""
    choice = getattr(call.args[0], CHOICE, None) if call.args else None
    if choice is None:
        return NotImplemented
    result = call()
    if isinstance(result, Tensor) and result.numel() == call.args[0].numel():
        setattr(result, CHOICE, choice)
    return result


def one_hot(mode: BackwardMode, call: Operation) -> Any:
    """`F.one_hot(places)`: rows of the identity."""
    place = call.args[0]
    result = call()
    return _looked_up(place, result, torch.eye(result.shape[-1], device=result.device))


def _looked_up(place: Tensor, result: Tensor, table: Tensor) -> Any:
    """Rows of a table (K, ...) at places (...): by the scores they were chosen by, or the slope from row to row."""
    choice, real, rows = getattr(place, CHOICE, None), stand_in_of(place), table.shape[0]
    if choice is not None and choice.shape[-1] == rows:
        hot = through(F.one_hot(place.detach(), rows).to(choice), choice.reshape(*place.shape, rows))
        return stand_for(result, torch.tensordot(hot, table.to(hot), dims=1))
    if real is None:
        return NotImplemented if choice is None else result
    index, table = place.detach().long(), table.to(real)
    after, before = (index + 1).clamp(max=rows - 1), (index - 1).clamp(min=0)
    gap = (after - before).clamp(min=1).to(real)
    move = ((real - real.detach()) / gap).reshape(*place.shape, *[1] * (table.dim() - 1))
    return stand_for(result, table[index] + (table[after] - table[before]) * move)


def row(mode: BackwardMode, call: Operation) -> Any:
    """`table[places]`, `F.embedding(places, table)`, `table.index_select(0, places)`."""
    table, place = call.args[:2] if call.name != "embedding" else call.args[1::-1]
    if call.name == "index_select":
        if call.argument(1, "dim") != 0:
            return NotImplemented
        place = call.argument(2, "index")
    plain = isinstance(table, Tensor) and isinstance(place, Tensor) and table.is_floating_point()
    if not plain or place.is_floating_point() or place.dtype == torch.bool or place.dtype == torch.uint8:
        return same_places(mode, call)
    if stand_in_of(place) is None and getattr(place, CHOICE, None) is None:
        return NotImplemented
    return _looked_up(place, call(), table)


def scattered(mode: BackwardMode, call: Operation) -> Any:
    """A one-hot vector made by writing to the places of the largest."""
    dim, place = call.argument(1, "dim"), call.argument(2, "index")
    value = call.argument(3, "value", call.kwargs.get("src"))
    choice = getattr(place, CHOICE, None)
    if choice is None or choice.numel() != call.args[0].numel():
        return NotImplemented
    scores = choice.movedim(-1, dim).reshape(call.args[0].shape)
    return replaced(call, scores * value if isinstance(value, int | float) else scores)
