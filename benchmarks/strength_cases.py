"""What `benchmarks.strength` compares: minimal-norm attacks of ours and of the peers, at equal steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.core.types import Norm

MODELS = ("trades_mnist_smallcnn", "cifar_cnn_a_adv")
IMAGES = 100
OURS = "bench"


@dataclass(frozen=True)
class Case:
    """One attack in one norm. `family` is the algorithm, the same word in every library."""

    family: str
    norm: Norm
    spec: str

    @property
    def library(self) -> str:
        """The library that the attack is from."""
        prefix, colon, _ = self.spec.partition("(")[0].partition(":")
        return prefix if colon else OURS


def _cw(lr: float) -> tuple[tuple[str, str], ...]:
    adv_lib = f"binary_search_steps=9,max_iterations=111,learning_rate={lr},initial_const=0.1,abort_early=False"
    foolbox = f"binary_search_steps=9,steps=111,stepsize={lr},initial_const=0.1,abort_early=False"
    return (
        (f"cw {lr}", f"cw(searches=9,steps=111,lr={lr},c0=0.1,abort_early=False)"),
        (f"cw {lr}", f"adv_lib:carlini_wagner_l2({adv_lib})"),
        (f"cw {lr}", f"foolbox:L2CarliniWagnerAttack({foolbox})"),
    )


# A thousand steps are 2,000 passes, forward and backward, and every attack gets as many: where ours bisects at the end,
# or searches twice, it makes fewer steps, and FAB's steps cost more than two. DeepFool stops by itself.
# C&W divides 999 steps among its nine searches, at two step sizes: large ones for far boundaries, small for near ones.
_L2 = (
    ("alma", "adv_lib:alma(num_steps=1000)"),
    ("alma", "alma(steps=496)"),
    ("pdgd", "adv_lib:pdgd(num_steps=1000)"),
    ("pdgd", "pdgd(steps=497)"),
    ("fmn", "adv_lib:fmn(steps=1000)"),
    ("fmn", "fmn(steps=1000)"),
    ("fab", "adv_lib:fab(n_iter=182)"),
    ("fab", "fab(steps=99,restarts=2,refine=10)"),
    ("ddn", "ddn(steps=1000)"),
    ("ddn", "adv_lib:ddn(steps=1000,levels=None)"),
    ("deepfool", "deepfool(steps=100)"),
    ("deepfool", "adv_lib:df"),
    ("pdpgd", "pdpgd(steps=497)"),
    ("pdpgd", "adv_lib:pdpgd(num_steps=1000)"),
)
_LINF = (
    ("fmn", "adv_lib:fmn(steps=1000)"),
    ("fmn", "fmn(steps=1000)"),
    ("pdpgd", "adv_lib:pdpgd(num_steps=1000)"),
    ("pdpgd", "pdpgd(steps=497)"),
    ("fab", "adv_lib:fab(n_iter=182)"),
    ("fab", "fab(steps=99,restarts=2,refine=10)"),
    ("deepfool", "deepfool(steps=100)"),
    ("deepfool", "adv_lib:df"),
)
# What was not expected to win, last: a run that is cut short holds the rest.
_L2_MORE = (
    *_cw(0.05),
    *_cw(0.01),
    ("fab_t", "fab_t(steps=54,restarts=2,refine=10)"),
    ("fab_t", "adv_lib:fab(n_iter=74,targeted_restarts=True)"),
    ("ddn", "foolbox:DDNAttack(steps=1000)"),
    ("fmn", "foolbox:L2FMNAttack(steps=1000)"),
)
_LINF_MORE = (
    ("fab_t", "fab_t(steps=54,restarts=2,refine=10)"),
    ("fab_t", "adv_lib:fab(n_iter=74,targeted_restarts=True)"),
    ("fmn", "foolbox:LInfFMNAttack(steps=1000)"),
)


def cases() -> Iterator[Case]:
    """Every case, in the order in which they are measured."""
    parts: tuple[tuple[Norm, tuple[tuple[str, str], ...]], ...] = (
        ("l2", _L2),
        ("linf", _LINF),
        ("l2", _L2_MORE),
        ("linf", _LINF_MORE),
    )
    for norm, attacks in parts:
        for family, spec in attacks:
            yield Case(family, norm, spec)
