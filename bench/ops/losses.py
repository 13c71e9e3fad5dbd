"""Per-example objectives: what defenses train on and what adaptive attacks climb, one function for both.

The first half works on logits and features; the second half are `Objective`s, `(model, x, y, *references) ->
(values (N,), logits (N, K))` in one forward pass, written so that an attacker *climbs* the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core.types import Classifier, HasFeatures, Norm, Objective, UserError
from bench.ops.norms import TINY
from bench.ops.synchronisation import asks


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (N,) of logits (N, K) and labels (N,)."""
    return F.cross_entropy(logits, y, reduction="none")


_SURE = 2.0**-20
"""Cross-entropy below which the true logit's slope, p_y - 1, is rounded by more than a twentieth of itself."""


def scale_of(rows: Tensor) -> Tensor:
    """What (N, 1) to divide rows (N, D) by so that squares of theirs neither vanish nor overflow: 1 if they do not."""
    largest = rows.detach().abs().amax(1, keepdim=True)
    ordinary = (largest >= TINY) & (largest <= 1 / TINY)
    return largest.where(~ordinary & (largest > 0), 1)


def best_other(logits: Tensor, y: Tensor) -> Tensor:
    """The largest score (N,) among the classes other than y."""
    return logits.scatter(1, y[:, None], -torch.inf).amax(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong score minus true score (N,): positive where the prediction is wrong (Carlini and Wagner 2017)."""
    return best_other(logits, y) - logits.gather(1, y[:, None]).squeeze(1)


def strongest_others(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """The `count` highest classes (N, J) of logits (N, K) other than y (N,), in falling order, or all others."""
    return logits.scatter(1, y[:, None], -torch.inf).topk(min(count, logits.shape[1] - 1), dim=1).indices


def all_others(y: Tensor, classes: int) -> Tensor:
    """Every class other than y (N,), as (N, classes - 1)."""
    return (y[:, None] + torch.arange(1, classes, device=y.device)) % classes


def rises(logits: Tensor, y: Tensor, rivals: Tensor) -> Tensor:
    """Logits of rival classes minus that of y (N,), both (N, J); all other classes are the rivals where J is 0."""
    if not rivals.shape[1]:
        rivals = all_others(y, logits.shape[1])
    return logits.gather(1, rivals) - logits.gather(1, y[:, None])


def _highest(logits: Tensor, count: int, name: str) -> tuple[Tensor, ...]:
    if logits.shape[1] < count:
        fault = f"{name} needs at least {count} classes, and the model has {logits.shape[1]}"
        raise UserError(f"{fault}: use an attack on cross-entropy or the margin")
    return logits.topk(count, dim=1).values.unbind(1)


def _positive(gap: Tensor) -> Tensor:
    """Gaps (N,) to divide by; 1 where there is none. No constant is added, for it would outweigh small logits."""
    return gap.where(gap > 0, 1)


def probability_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest wrong probability minus the true one (N,) (PMA, Xie et al. 2024, eq. 5), as an attacker climbs it.

    Its derivative by the logits is given divided by the probability of all wrong classes together: the same direction
    in any image, but it does not vanish where the softmax is sure.
    """
    true, wrong = y[:, None], logits.detach().scatter(1, y[:, None], -torch.inf)
    among_wrong, odds = wrong.softmax(1), log_odds(logits.detach(), y)[:, None]
    p_wrong, p_true = odds.sigmoid(), (-odds).sigmoid()
    best = wrong.argmax(1, keepdim=True)
    gap = among_wrong.gather(1, best) * p_wrong - p_true
    # d(p_b - p_y) / dz_k = p_k ((k = b) - (k = y) - (p_b - p_y)), over p_wrong; 1 + p_b - p_y = p_wrong (1 + q_b).
    slopes = (-gap * among_wrong).scatter_add(1, best, among_wrong.gather(1, best))
    slopes = slopes.scatter(1, true, -p_true * (1 + among_wrong.gather(1, best)))
    linear = (slopes.where(slopes != 0, 0) * logits.where(slopes != 0, 0)).sum(1)
    return gap.squeeze(1) + (linear - linear.detach())


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (N,), larger is worse for the model (Croce and Hein 2020, "An alternative loss").

    The margin over the gap between the highest and the third highest logit: no shift or scale of the logits changes it.

    Raises:
        UserError: there are fewer than 3 classes.
    """
    first, _, third = _highest(logits, 3, "the DLR loss")
    return margin(logits, y) / _positive(first - third)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Difference of logits ratio (N,) toward target classes (N,) (Croce and Hein 2020, "An alternative loss").

    Raises:
        UserError: there are fewer than 4 classes.
    """
    first, _, third, fourth = _highest(logits, 4, "the targeted DLR loss")
    return rises(logits, y, target[:, None]).squeeze(1) / _positive(first - (third + fourth) / 2)


def kl_divergence(clean: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(other)) (N,), gradient through both (TRADES, Zhang et al. 2019, eq. 5)."""
    return F.kl_div(other.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True).sum(1)


def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    """Log-odds against the true class (N,): logsumexp of the other logits minus the true one."""
    true = y[:, None]
    return logits.scatter(1, true, -torch.inf).logsumexp(1) - logits.gather(1, true).squeeze(1)


def steep_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (N,) for an attacker to climb: its gradient keeps its direction as long as float32 holds it.

    Where 1 - p_y nears the rounding of 1, the usual form loses the slope of the true logit, then all of the value,
    while that of the others goes on; as softplus of the log-odds both fall together, to 1e-45. Other rows are the usual
    form's to the bit.
    """
    usual = cross_entropy(logits, y)
    sure = usual.detach() < _SURE
    if asks(usual.device) and not bool(sure.any()):
        return usual
    # Rows that are not sure pass through as constants: what is no number there must not reach their gradient.
    held = torch.where(sure[:, None], logits, logits.detach().nan_to_num())
    return torch.where(sure, F.softplus(log_odds(held, y)), usual)


# Objectives over a whole model.


def ce(model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the true label."""
    logits = model(x)
    return cross_entropy(logits, y), logits


def steep_ce(model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the true label, its gradient true to direction where the softmax is sure."""
    logits = model(x)
    return steep_cross_entropy(logits, y), logits


def cross_entropy_in(norm: Norm) -> Callable[[Tensor, Tensor], Tensor]:
    """The form of cross-entropy that attacks in a norm climb.

    In linf, where only the signs of the gradient count, it is the usual one of the papers' own code and of every
    library, rounding and all: their numbers, and those stored here, are made with it. `margin` does not round.
    """
    return cross_entropy if norm == "linf" else steep_cross_entropy


def ce_in(norm: Norm) -> Objective:
    """`cross_entropy_in` as an objective."""
    return ce if norm == "linf" else steep_ce


def targeted_ce(model: Classifier, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the cross-entropy of a target class (N,)."""
    logits = model(x)
    return -cross_entropy(logits, target), logits


def logit_margin(model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Best wrong logit minus true logit."""
    logits = model(x)
    return margin(logits, y), logits


def probability_gap(model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Largest wrong probability minus the true one."""
    logits = model(x)
    return probability_margin(logits, y), logits


def rival_margin(model: Classifier, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logit of a target class (N,) minus the true logit."""
    logits = model(x)
    return rises(logits, y, target[:, None]).squeeze(1), logits


def rival_margins(model: Classifier, x: Tensor, y: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of rival classes (N, J) minus the true one's, (N, J); of all other classes where J is 0."""
    logits = model(x)
    return rises(logits, y, rivals), logits


def output_direction(model: Classifier, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Logits along a direction (N, K) of theirs."""
    logits = model(x)
    return (logits * weights).sum(1), logits


def _spread(logits: Tensor) -> Tensor:
    """Standard deviation (N, 1) of rows (N, K) of any scale; 1 where all logits are equal."""
    plain = logits.std(1, correction=0, keepdim=True)
    largest = logits.abs().amax(1, keepdim=True)
    largest = largest.where(largest > 0, 1)
    exact = (logits / largest).std(1, correction=0, keepdim=True) * largest
    plain = torch.where((plain >= TINY) & (plain <= 1 / TINY), plain, exact)
    return plain.where(plain > 0, 1)


@dataclass(frozen=True)
class NormalisedCE:
    """Cross-entropy after every row of logits is brought to mean 0 and standard deviation `scale`.

    Undoes saturation: a model whose logits are huge has softmax gradients that underflow to exact zeros (MAT's SO term
    grows the feature norm), and its argmax does not change under this rescaling.
    """

    scale: float = 1.0

    def __call__(self, model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N,) and the model's own logits (N, K)."""
        logits = model(x)
        return cross_entropy(logits * (self.scale / _spread(logits.detach())), y), logits


@dataclass(frozen=True)
class TradesObjective:
    """CE + beta KL(clean || adversarial): the TRADES loss seen by its attacker. Reference: clean logits (N, K)."""

    beta: float = 6.0

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N,) and logits (N, K)."""
        logits = model(x)
        return cross_entropy(logits, y) + self.beta * kl_divergence(clean, logits), logits


def latent_target(model: HasFeatures, x: Tensor, y: Tensor, z_target: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the distance of the features to target features (N, D)."""
    z = model.features(x)
    return -torch.linalg.vector_norm((z - z_target) / scale_of(z_target), dim=1), model.classify(z)
