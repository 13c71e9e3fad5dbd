"""Attacks of other libraries as entries of an attack list: found, run, judged, and nothing left behind."""

from __future__ import annotations

import copy
import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.attacks.peers.adapter import Peer, PeerTraits, peer_class, peers
from bench.core.extras import imported
from bench.core.fields import settable
from bench.core.from_specs import attack_from
from bench.core.specs import parse_specs
from bench.core.types import Budget, Norm, ThreatModel, UserError
from bench.evaluation.plan import plan
from bench.ops import norms, passes, rng
from tests.support import subjects

CASES: list[tuple[str, Norm]] = [
    ("foolbox:L2CarliniWagnerAttack(binary_search_steps=3,steps=30,stepsize=0.05)", "l2"),
    ("foolbox:LinfPGD(steps=5,random_start=False)", "linf"),
    ("foolbox:HopSkipJumpAttack(steps=2,initial_gradient_eval_steps=5)", "linf"),
    ("foolbox:InversionAttack", "l1"),
    ("torchattacks:PGD(steps=5)", "linf"),
    ("torchattacks:CW(steps=10,c=10)", "l2"),
    ("torchattacks:Square(n_queries=20)", "l2"),
    ("torchattacks:APGDT(steps=4)", "linf"),
    ("autoattack:standard", "linf"),
    ("adv_lib:fmn(steps=10)", "l2"),
    ("adv_lib:apgd(n_iter=5)", "l1"),
    ("adv_lib:sdf(steps=4,df_steps=4)", "l2"),
]
PACKAGES = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "autoattack": "pyautoattack",
    "adv_lib": "adv_lib",
}


def built(written: str) -> Any:
    pytest.importorskip(PACKAGES[written.partition(":")[0]])
    return attack_from(parse_specs(written)[0], {})


def run(attack: Any, model: nn.Module, norm: Norm, count: int = 6) -> Tensor:
    x, y = subjects.images(model, count)
    grid = [subjects.EPS[norm] * (place % 3) for place in range(count)]
    budget = Budget(norm, None) if attack.minimal else subjects.budget(norm, grid, count)
    return attack(model, x, y, budget, subjects.keys(count))


@pytest.fixture
def model() -> nn.Module:
    return subjects.frozen(subjects.Centred())


@pytest.mark.parametrize(("written", "norm"), CASES)
class TestEveryPeer:
    def test_runs_within_its_budget_and_returns_failures_clean(self, model, written, norm):
        attack = built(written)
        x, y = subjects.images(model, 6)
        with passes.counted(6) as tally:
            x_adv = run(attack, model, norm)
        assert norm in attack.norms and x_adv.shape == x.shape
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        fooled = model(x_adv).argmax(1) != y
        assert fooled.any()
        assert torch.equal(x_adv[~fooled], x[~fooled])
        if not attack.minimal:
            size = norms.size(x_adv.double() - x.double(), norm)
            bound = torch.tensor([subjects.EPS[norm] * (place % 3) for place in range(6)])
            assert (size <= bound * (1 + 1e-6) + 1e-6).all()
            assert (tally.forwards[::3] == 0).all()  # eps is 0 there
        assert (tally.forwards[1::3] > 1).all()

    def test_leaves_model_and_random_states_as_found(self, written, norm):
        own = subjects.Centred().eval()
        own.centers *= 2
        before = copy.deepcopy(own.state_dict())
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        first = run(built(written), own, norm)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()
        assert random.getstate() == states[2]
        assert not own.training and all(weight.requires_grad and weight.grad is None for weight in own.parameters())
        assert all(torch.equal(before[key], value) for key, value in own.state_dict().items())
        assert not own._forward_hooks
        torch.rand(3)
        assert torch.equal(first, run(built(written), own, norm))

    def test_fields_are_the_constructors(self, written, norm):
        attack, spec = built(written), parse_specs(written)[0]
        assert {name for name, _ in spec.fields} <= set(settable(type(attack)))
        assert not {"model", "eps", "norm"} & set(settable(type(attack)))


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("foolbox:L2CarliniWagner", "unknown foolbox attack 'L2CarliniWagner': did you mean L2CarliniWagnerAttack"),
        ("foolbox:DDNAttack(step=3)", "has no field 'step': did you mean steps"),
        ("foolbox:DDNAttack(steps='many')", "steps cannot be 'many'"),
        ("torchattacks:PDG", "did you mean"),
        ("autoattack:standrad", "did you mean standard"),
        ("adv_lib:almas", "did you mean alma"),
    ],
)
def test_names_and_arguments_that_are_wrong_are_refused(written: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault) as error:
        built(written)
    assert "\n" not in str(error.value)


def test_an_unknown_library_suggests_its_neighbour() -> None:
    with pytest.raises(UserError, match="unknown library of attacks 'folbox': did you mean foolbox"):
        attack_from(parse_specs("folbox:PGD")[0], {})


@pytest.mark.parametrize(
    ("written", "package"),
    [("foolbox:PGD", "foolbox"), ("torchattacks:PGD", "torchattacks"), ("autoattack:rand", "pyautoattack"),
     ("adv_lib:fmn", "adv_lib")],
)  # fmt: skip
def test_a_library_that_is_not_installed_is_named_with_its_remedy(monkeypatch, written, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{package} is not installed: pip install") as error:
        attack_from(parse_specs(written)[0], {})
    assert "\n" not in str(error.value)
    prefix = written.partition(":")[0]
    assert [line for line in peers() if line[0] == f"{prefix}:" and "not installed" in line[2]]


def test_what_a_library_needs_itself_is_named(tmp_path, monkeypatch):
    (tmp_path / "needy_peer.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="needy needs a_module_that_is_not_there"):
        imported("needy", "needy_peer", "pip install needy")


def test_adv_lib_does_not_leave_a_hollow_package_behind() -> None:
    built("adv_lib:fmn")
    assert "adv_lib.attacks" not in sys.modules or hasattr(sys.modules["adv_lib.attacks"], "fmn")
    assert "torchvision" not in sys.modules


class _Intrusive(Peer):
    """Trains the model, spends random numbers, prints, and returns black images."""

    def propose(self, model, x, y, norm, eps, seed):
        model.train()
        print("working")
        random.random(), np.random.rand(), torch.rand(1)
        loss = model.requires_grad_(True)(x).sum()
        loss.backward()
        if eps == 0.4:
            raise ValueError("no\nluck")
        return torch.zeros_like(x)


def test_an_intrusive_peer_is_contained(model, capsys):
    kind = peer_class(
        _Intrusive, "intrusive:Attack", PeerTraits(("l2",)), lambda steps=3, model=None: None, frozenset({"model"})
    )
    assert settable(kind) == ["steps"]
    own = subjects.Centred().eval()
    random_state, x, y = torch.get_rng_state(), *subjects.images(own, 4)
    keys = rng.keys(0, torch.arange(4), "intrusive")
    with passes.counted(4) as tally:
        x_adv = kind()(own, x, y, subjects.budget("l2", 1.0, 4), keys)
    black = own(torch.zeros_like(x)).argmax(1) != y
    assert torch.equal(x_adv[~black], x[~black]) and (x_adv[black] == 0).all()
    assert tally.forwards.tolist() == [2] * 4 and tally.backwards.tolist() == [1] * 4
    assert torch.equal(random_state, torch.get_rng_state()) and not own.training
    assert all(weight.grad is None and weight.requires_grad for weight in own.parameters())
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"intrusive:Attack failed: ValueError: no$"):
        kind()(own, x, y, subjects.budget("l2", 0.4, 4), keys)
    with pytest.raises(UserError, match=r"needs a torch\.nn\.Module"):
        kind()(lambda x: x, x, y, subjects.budget("l2", 0.4, 4), keys)


def test_an_attack_list_may_mix_peers_with_our_own(model):
    pytest.importorskip("foolbox")
    planned = plan("pgd,foolbox:LinfPGD(steps=3),foolbox:DDNAttack", model, ThreatModel("linf", 0.1))
    assert [item.norm for item in planned] == ["linf", "linf", "l2"]
    assert planned[1].fields["steps"] == 3
    assert planned[2].attack.minimal


def test_known_faults_are_listed() -> None:
    pytest.importorskip("foolbox")
    notes = {name: note for name, _, note in peers()}
    assert "black" in notes["foolbox:L2CarliniWagnerAttack"]
    assert all(kinds for name, kinds, note in peers() if "not installed" not in note and "needs" not in note)
