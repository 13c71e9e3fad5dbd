"""Between two compactions no step makes the host wait for the device, and how often images leave changes no verdict.

There is no GPU here: what would wait is known by the operators that are called, which are the same on a CPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.attacks.budgeted.adaptive import Margin
from bench.attacks.budgeted.apgd import APGDCE, APGDT
from bench.attacks.budgeted.fgsm import MIM
from bench.attacks.budgeted.pgd import PGD
from bench.attacks.gradient_free.square import Square
from bench.attacks.minimal.cw import CW
from bench.attacks.minimal.ddn import DDN
from bench.attacks.minimal.fmn import FMN
from bench.core.types import Budget, Norm
from bench.ops import active_set, passes, rng
from tests.attacks.test_counting import Rowwise
from tests.support import subjects

_NEVER = 10**6
_WAITS = {
    *("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "item"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive"),
}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_MASKS = (torch.bool, torch.uint8)


class Waits(TorchDispatchMode):
    """Counts the operators called inside the block for which the host of a GPU would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [at for at in args[1] if at is not None and at.dtype in _MASKS] if name in _INDEXING else []
        target = (kwargs or {}).get("device")
        moved = name == "_to_copy" and target is not None and target != args[0].device
        if name in _WAITS or masks or moved:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def attack(method: Any, norm: Norm, every: int, steep: float = 1.0) -> tuple[Tensor, Tensor, Counter[str]]:
    """x_adv (N, C, H, W), forward passes (N,) and waits of an attack whose images leave `every` so many steps."""
    model = subjects.frozen(Rowwise())
    model.embed.weight *= steep
    x, y = subjects.images(model, 12)
    grid = [subjects.EPS[norm] * (place % 6) for place in range(len(x))]  # some never fall, some at once
    budget = Budget(norm, None) if method.minimal else subjects.budget(norm, grid, len(x))
    with active_set.compacting(every), passes.counted(len(x)) as tally, Waits() as waits:
        x_adv = method(model, x, y, budget, subjects.keys(len(x)))
    return x_adv, tally.forwards, waits.seen


def methods(steps: int) -> list[tuple[Any, Norm]]:
    """The attacks whose steps wait for nothing, with the steps that they are to take."""
    climbs = [(PGD(steps=steps), "linf"), (PGD(steps=steps), "l2"), (MIM(steps=steps), "linf")]
    adaptive = [(Margin(steps=steps), "l2"), (Margin(steps=steps), "l1")]
    walks = [(APGDCE(steps=steps), norm) for norm in ("linf", "l2", "l1")]
    minimal = [(DDN(steps=steps), "l2"), (FMN(steps=steps), "l2"), (FMN(steps=steps), "linf")]
    searches = [(CW(searches=2, steps=steps // 2), "l2"), (CW(searches=2, steps=steps // 2, abort_early=False), "l2")]
    queries = [(Square(queries=steps), "linf"), (Square(queries=steps), "l2")]
    return climbs + adaptive + walks + minimal + searches + queries


_PLACES = range(len(methods(0)))
_NAMES = [f"{type(method).__name__}-{norm}-{place}" for place, (method, norm) in enumerate(methods(0))]


@pytest.mark.parametrize("place", _PLACES, ids=_NAMES)
def test_a_step_waits_for_nothing_and_a_compaction_once(place: int) -> None:
    short, long = methods(20)[place], methods(40)[place]
    beside = attack(*long, every=_NEVER)[2]
    assert beside == attack(*short, every=_NEVER)[2] and beside.total() <= 3
    assert attack(*long, every=8)[2].total() <= beside.total() + 40 // 8


@pytest.mark.parametrize("steep", [1.0, 40.0], ids=["smooth", "saturated"])
@pytest.mark.parametrize("place", _PLACES, ids=_NAMES)
def test_how_often_images_leave_changes_no_bit(place: int, steep: float) -> None:
    method, norm = methods(20)[place]
    x_adv, forwards, _ = attack(method, norm, 1, steep)
    for every in (3, 8):
        other, more, _ = attack(method, norm, every, steep)
        assert torch.equal(other, x_adv) and (more >= forwards).all()


def test_images_of_these_tests_fall_early_late_and_never() -> None:
    _, forwards, waits = attack(PGD(steps=20), "linf", 1)
    assert forwards.min() <= 3 and forwards.max() == 21 and len(forwards.unique()) >= 5
    assert waits.total() > 20


def test_restarts_and_targets_do_not_depend_on_it_either() -> None:
    for method in (PGD(steps=9, restarts=3), APGDT(steps=9, targets=3), Square(queries=20, restarts=2)):
        every = [attack(method, "linf", interval)[0] for interval in (1, 3, 8)]
        assert torch.equal(every[0], every[1]) and torch.equal(every[0], every[2])


def test_the_recorder_sees_what_waits() -> None:
    mask, values = rng.uniform(subjects.keys(5), ()) > 0.5, torch.zeros(5)
    for wait in (lambda: bool(mask.any()), lambda: values[mask], lambda: mask.nonzero(), lambda: int(mask.sum())):
        with Waits() as waits:
            wait()
        assert waits.seen.total() >= 1
    with Waits() as waits:
        values[mask] = 1
        values[torch.arange(5)] = torch.where(mask, values, 2)
    assert waits.seen.total() == 1
