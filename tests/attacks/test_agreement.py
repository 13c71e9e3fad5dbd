"""The same attack in another library, on the same model and images, must not find more than ours does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.attacks.budgeted.pgd import PGD
from bench.attacks.minimal.cw import CW
from bench.attacks.minimal.ddn import DDN
from bench.attacks.minimal.deepfool import DeepFool
from bench.attacks.minimal.fmn import FMN
from bench.core.types import Norm
from tests.support.oracles import Rectified, attack, images

foolbox: Any = pytest.importorskip("foolbox")

SHAPE = (1, 8, 8)


def subject(count: int = 48) -> tuple[Rectified, Tensor, Tensor]:
    """A small model with images, some of whose pixels are exactly 0 or 1, and its own predictions as labels."""
    model = Rectified(10, SHAPE, hidden=64).eval()
    x = images(count, SHAPE, -0.1, 1.1).clamp(0, 1)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def peer(method: Any, model: Rectified, x: Tensor, y: Tensor, eps: float | None = None) -> Tensor:
    """What a foolbox attack returns."""
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    result: Tensor = method(wrapped, x, y, epsilons=eps)[1]
    return result.detach()


def sizes(model: Rectified, x: Tensor, y: Tensor, x_adv: Tensor, norm: Norm) -> Tensor:
    """Sizes (N,) of a peer's images, judged as ours are."""
    return attack(lambda *_: x_adv, model, x, y, norm).size


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("linf", 0.05), ("l2", 0.15), ("l2", 0.3)])
def test_pgd_leaves_no_more_images_standing_than_foolbox(norm: Norm, eps: float) -> None:
    model, x, y = subject()
    kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
    theirs = kind(steps=40, rel_stepsize=0.1, random_start=False)
    standing = sizes(model, x, y, peer(theirs, model, x, y, eps), norm).isinf().sum()
    ours = PGD(steps=40, step_size=0.1 * eps, random_start=False)
    assert 0 < standing < len(x)
    assert attack(ours, model, x, y, norm, eps).size.isinf().sum() <= standing


@pytest.mark.parametrize(
    ("ours", "theirs", "norm"),
    [
        (DDN(), foolbox.attacks.DDNAttack(steps=100), "l2"),
        (CW(searches=6, steps=150, c0=0.01), foolbox.attacks.L2CarliniWagnerAttack(6, 150, initial_const=0.01), "l2"),
        (FMN(), foolbox.attacks.L2FMNAttack(steps=100), "l2"),
        (FMN(), foolbox.attacks.LInfFMNAttack(steps=100), "linf"),
        (DeepFool(), foolbox.attacks.L2DeepFoolAttack(), "l2"),
        (DeepFool(), foolbox.attacks.LinfDeepFoolAttack(), "linf"),
    ],
    ids=["ddn", "cw", "fmn-l2", "fmn-linf", "deepfool-l2", "deepfool-linf"],
)
def test_minimal_attacks_find_no_larger_perturbations_than_foolbox(ours: Any, theirs: Any, norm: Norm) -> None:
    model, x, y = subject()
    found = attack(ours, model, x, y, norm).size
    assert found.isfinite().all()
    assert found.median() <= 1.01 * sizes(model, x, y, peer(theirs, model, x, y), norm).median()
