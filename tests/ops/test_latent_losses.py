"""ADR's losses against plain references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bench.ops import latent_losses, losses
from bench.ops.latent_losses import Divergence
from tests.support.adr import OFF, drawn


def predicted(logits: Tensor) -> list[list[float]]:
    rows = [[math.exp(value) for value in row] for row in logits.double().tolist()]
    return [[value / sum(row) for value in row] for row in rows]


class TestLosses:
    """Sums written out, number by number."""

    z, z_adv = drawn(6, 7, "clean"), drawn(6, 7, "adversarial")
    logits, logits_adv = drawn(6, 4, "logits"), drawn(6, 4, "other logits")
    y = torch.tensor([0, 1, 0, 2, 1, 0])

    def test_local_compactness(self) -> None:
        expected = [sum(abs(a - b) for a, b in zip(*pair, strict=True)) / 7 for pair in self._rows(self.z, self.z_adv)]
        assert latent_losses.local_compactness(self.z, self.z_adv).tolist() == pytest.approx(expected, rel=1e-5)

    def test_global_compactness(self) -> None:
        expected = []
        for i, mine in enumerate(self.z_adv.tolist()):
            total = 0.0
            for j, theirs in enumerate(self.z.tolist()):
                d = 0 if self.y[i] == self.y[j] else 1
                total += (0.99 - d) / 0.99 * sum(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / 7
            expected.append(total / 6)
        values = latent_losses.global_compactness(self.z_adv, self.y, self.z, self.y)
        assert values.tolist() == pytest.approx(expected, rel=1e-4)

    def test_smoothness_and_entropy(self) -> None:
        p, p_adv = predicted(self.logits), predicted(self.logits_adv)
        cross = [-sum(a * math.log(b) for a, b in zip(*pair, strict=True)) for pair in zip(p, p_adv, strict=True)]
        assert latent_losses.smoothness(self.logits, self.logits_adv).tolist() == pytest.approx(cross, rel=1e-5)
        own = [-sum(a * math.log(a) for a in row) for row in p_adv]
        assert latent_losses.entropy(self.logits_adv).tolist() == pytest.approx(own, rel=1e-5)
        # Up to the entropy of the clean prediction, smoothness is the KL divergence.
        apart = losses.kl_divergence(self.logits, self.logits_adv) + latent_losses.entropy(self.logits)
        torch.testing.assert_close(apart, latent_losses.smoothness(self.logits, self.logits_adv))

    @pytest.mark.parametrize("term", latent_losses.TERMS)
    def test_gradient_flows_through_the_attacked_side_alone(self, term: str) -> None:
        sides = [part.clone().requires_grad_() for part in (self.z, self.logits, self.z_adv, self.logits_adv)]
        weights = Divergence(**OFF | {term: 1.0})
        value = weights((sides[0], sides[1]), (sides[2], sides[3]), self.y, (sides[0], self.y)).sum()
        value.backward()
        assert sides[0].grad is None and sides[1].grad is None
        reached = sides[2] if term in ("lc", "gb") else sides[3]
        assert reached.grad is not None and float(reached.grad.abs().sum()) > 0

    def test_components_are_switched_by_their_weights(self) -> None:
        clean, adversarial, anchors = (self.z, self.logits), (self.z_adv, self.logits_adv), (self.z, self.y)
        parts = [Divergence(**OFF | {name: 1.0})(clean, adversarial, self.y, anchors) for name in latent_losses.TERMS]
        whole = Divergence(1.0, 2.0, 3.0, 4.0)(clean, adversarial, self.y, anchors)
        torch.testing.assert_close(whole, parts[0] + 2 * parts[1] + 3 * parts[2] + 4 * parts[3])
        assert float(Divergence(**OFF)(clean, adversarial, self.y, anchors).abs().sum()) == 0
        assert Divergence(1, 0, 2, 0).switched_on() == ["lc", "smt"] and Divergence().without("gb").gb == 0

    def test_a_batch_of_one_class_has_the_mean_distance(self) -> None:
        y = torch.full((6,), 3)
        values = latent_losses.global_compactness(self.z_adv, y, self.z, y)
        expected = (self.z_adv[:, None] - self.z[None]).abs().mean(2).mean(1)
        torch.testing.assert_close(values, expected)
        assert values.isfinite().all() and latent_losses.pair_weights(y, y).unique().tolist() == [1.0]

    @pytest.mark.parametrize("count", [0, 1])
    def test_an_empty_batch_and_a_batch_of_one(self, count: int) -> None:
        clean, adversarial = (self.z[:count], self.logits[:count]), (self.z_adv[:count], self.logits_adv[:count])
        values = Divergence(conf=1.0)(clean, adversarial, self.y[:count], (self.z[:count], self.y[:count]))
        assert values.shape == (count,) and values.isfinite().all()

    def test_equal_constant_and_extreme_inputs_are_finite(self) -> None:
        z = torch.ones(6, 7, requires_grad=True)
        for scale in (0.0, 1e4, -1e4):
            logits = (self.logits * scale).requires_grad_()
            value = Divergence(conf=1.0)((z, logits), (z, logits), self.y, (z, self.y)).sum()
            slopes = torch.autograd.grad(value, (z, logits))
            assert value.isfinite() and all(slope.isfinite().all() for slope in slopes)

    @staticmethod
    def _rows(*parts: Tensor) -> list[tuple[list[float], ...]]:
        return list(zip(*(part.tolist() for part in parts), strict=True))
