"""A model may write into what it is given: it gives the numbers of the net on a clone, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bench as package
from bench.models.adapted import adapted
from bench.ops import losses, passes
from tests.support import subjects
from tests.support.oracles import Linear

COUNT = 24
ATTACKS = "pgd(steps=8),margin(steps=8),square(queries=40),cw(searches=2,steps=20),deepfool,noise"


def quantised(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.mul_(4).round_().div_(4)


def clamped(x: Tensor) -> Tensor:
    x.data.clamp_(0.2, 0.8)
    return x


def normalised(x: Tensor) -> Tensor:
    return x.sub_(0.4).div_(0.3)


def under_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        x.sub_(0.4).div_(0.3)
    return x


WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    "quantiser": quantised,
    "clamp": clamped,
    "normalisation": normalised,
    "normalisation under no_grad": under_no_grad,
}


class Writing(nn.Module):
    """A linear net behind a layer that writes into its input, or into a copy."""

    def __init__(self, layer: Callable[[Tensor], Tensor], copies: bool = False) -> None:
        super().__init__()
        self.net, self.layer, self.copies = subjects.Centred(), layer, copies

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.layer(x.clone() if self.copies else x))


@pytest.mark.parametrize("name", WRITES)
def test_a_net_that_writes_gives_the_numbers_of_the_net_on_a_clone(name: str) -> None:
    x, _ = subjects.images(subjects.Centred(), COUNT)
    y = Writing(WRITES[name], copies=True)(x).argmax(1)
    theirs, labels = x.clone(), y.clone()
    run = package.evaluate(Writing(WRITES[name]), theirs, labels, ATTACKS, eps=0.1)
    right = package.evaluate(Writing(WRITES[name], copies=True), x, y, ATTACKS, eps=0.1)
    assert run.verdicts.equals(right.verdicts) and run.verdicts["broken"].any()
    assert torch.equal(theirs, x) and torch.equal(labels, y)
    assert "writes input" in run.record.notes and "writes input" not in right.record.notes


def test_from_the_command_line(bench: Callable, tmp_path: Path) -> None:
    source = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, copies):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.copies = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), copies
    def forward(self, x):
        x = x.clone() if self.copies else x
        x.data.clamp_(.2, .8)
        return 9 * self.net(x.sub_(.5) if x.requires_grad is False else x - .5)
def writes(): return Net(False)
def copies(): return Net(True)
"""
    (tmp_path / "nets.py").write_text(source)
    words = ("--data", "digits", "-n", "300", "--attacks", "pgd(steps=5),square(queries=20)", "--eps", "0.1")
    for name in ("writes", "copies"):
        said = bench("run", "--model", f"nets.py:{name}", *words, "--out", name)
        assert said.code == 0, said.err
    tables = [Path(name, "verdicts.csv").read_bytes() for name in ("writes", "copies")]
    assert tables[0] == tables[1] and b"True,True" in tables[0]
    assert json.loads(Path("writes/run.json").read_text())["notes"] == ["writes input"]


def test_an_objective_may_call_the_model_twice_and_use_the_images_after() -> None:
    """Not only the first call sees the images, and what comes after sees them unchanged."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        first, second = model(x), model(x)
        return losses.margin(first + second, y) + (x**2).flatten(1).sum(1), second

    x, y = subjects.images(subjects.Centred(), 5)
    writes, copies = (adapted(Writing(normalised, copied), x) for copied in (False, True))
    ours, theirs = (passes.input_gradient(objective, model, x, y) for model in (writes, copies))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_attacks_hand_over_copies_even_of_a_model_that_is_not_adapted() -> None:
    """A check on a few images may miss what a model writes on others."""
    model = subjects.frozen(Writing(normalised))
    copies = subjects.frozen(Writing(normalised, copies=True))
    x, _ = subjects.images(copies, 16)
    y, before = passes.reference_outputs(copies, x).argmax(1), x.clone()
    for attempt in (
        lambda net: passes.outputs(net, x),
        lambda net: torch.stack(passes.input_gradient(losses.logit_margin, net, x, y)[:1]),
        lambda net: passes.input_gradient(losses.ce, net, x, y)[2],
        lambda net: passes.jacobian(losses.rival_margins, net, x, y, y[:, None].fmod(2))[2],
    ):
        assert torch.equal(attempt(model), attempt(copies)) and torch.equal(x, before)


def test_a_model_that_hands_out_its_own_memory_does_not_change_what_was_read() -> None:
    class Reuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.held = subjects.Centred(), torch.zeros(0)

        def forward(self, x: Tensor) -> Tensor:
            logits = self.net(x)
            if self.held.shape != logits.shape or torch.is_grad_enabled():
                self.held = logits
            return self.held.copy_(logits) if not torch.is_grad_enabled() else logits

    model = subjects.frozen(Reuses())
    x, _ = subjects.images(subjects.Centred(), 16)
    first = passes.outputs(model, x)
    kept = first.clone()
    passes.outputs(model, 1 - x)
    assert torch.equal(first, kept)


def test_an_attack_that_writes_into_the_images_is_judged_by_the_clean_ones() -> None:
    model = Linear(3, (1, 4, 4))
    x, _ = subjects.images(model, 8, (1, 4, 4))
    (y,) = (model(x).argmax(1),)
    source = Path(__file__).with_name("_writing_attack.py")
    run = package.evaluate(model, x, y, f"{source}:Writing", eps=0.1)
    changed = run.verdicts["size"] > 0
    assert changed.all() and (run.verdicts["size"] <= 0.1 + 1e-6).all()
