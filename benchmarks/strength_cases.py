"""What `benchmarks.strength` compares: minimal-norm attacks of ours and of the peers, at equal steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.types import Norm

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


# A thousand steps are 2,000 passes, forward and backward, and every attack gets as many: where ours bisects at the end,
# or searches twice, it makes fewer steps, and FAB's steps cost more than two. DeepFool stops by itself.
# C&W divides 999 steps among its nine searches, with a step size and a first constant that such short searches need.
_CW, _CW_ADV_LIB = "lr=0.05,c0=0.1,", "learning_rate=0.05,initial_const=0.1,"
_CW_FOOLBOX = "stepsize=0.05,initial_const=0.1,"
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
    ("cw", f"cw(searches=9,steps=111,{_CW}abort_early=False)"),
    ("cw", f"adv_lib:carlini_wagner_l2(binary_search_steps=9,max_iterations=111,{_CW_ADV_LIB}abort_early=False)"),
    ("cw", f"foolbox:L2CarliniWagnerAttack(binary_search_steps=9,steps=111,{_CW_FOOLBOX}abort_early=False)"),
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
