"""Broken and sound defenses on the digits, one of each kind: what an audit has to tell apart.

Every function is a factory, as in `bench run --model tests/gallery/models.py:reversed_gradient --data digits`. The
broken ones stand in front of a net that plain training left without any robustness, and hide it from some attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models import checkpoints


def _net(name: str = "natural_digits") -> nn.Module:
    return checkpoints.load(name).model


class Defended(nn.Module):
    """A net behind something done to its images, or to its logits."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
        net: str = "natural_digits",
    ) -> None:
        super().__init__()
        self.name, self.net, self.before, self.after = net, _net(net), before, after

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.before is None else self.before(x)
        logits = self.net(x)
        return logits if self.after is None else self.after(logits)


class _Pretend(torch.autograd.Function):
    """Gives the first value and the gradient of the second."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def _instead(value: Tensor, other: Tensor) -> Tensor:
    return _Pretend.apply(value.detach(), other)  # type: ignore[no-any-return]


# No gradient.


def rounded_input() -> nn.Module:
    """Pixels rounded to 8 levels: the gradient is zero everywhere."""
    return Defended(before=lambda x: (x * 7).round() / 7)


def detached_input() -> nn.Module:
    """A smoothing filter computed outside the graph: there is no gradient at all."""

    class Detached(Defended):
        def forward(self, x: Tensor) -> Tensor:
            smooth = F.avg_pool2d(x.detach(), 3, 1, 1)
            return self.net(0.8 * x.detach() + 0.2 * smooth + 0 * x)  # type: ignore[no-any-return]

    return Detached()


def thermometer() -> nn.Module:
    """Pixels as the number of thresholds that they pass."""
    levels = torch.linspace(0, 1, 9)[1:]
    return Defended(before=lambda x: (x[..., None] >= levels).float().mean(-1))


def hard_logits() -> nn.Module:
    """The predicted class alone, as a one-hot row."""
    return Defended(after=lambda logits: F.one_hot(logits.argmax(1), logits.shape[1]).float())


def clipped_logits() -> nn.Module:
    """Logits cut at one: on most images all that attacks climb is flat."""
    return Defended(after=lambda logits: logits.clamp(-1, 1))


def block_coder() -> nn.Module:
    """Cosine coefficients of blocks of four pixels, rounded, as an image coder does."""
    place = torch.arange(4.0)
    basis = torch.cos(torch.pi * (place[None] + 0.5) * place[:, None] / 4)
    basis = basis / basis.norm(dim=1, keepdim=True)

    def code(x: Tensor) -> Tensor:
        blocks = x.unfold(2, 4, 4).unfold(3, 4, 4)
        coefficients = (basis @ blocks @ basis.T * 8).round() / 8
        blocks = basis.T @ coefficients @ basis
        return blocks.permute(0, 1, 2, 4, 3, 5).reshape(x.shape)

    return Defended(before=code)


# A gradient that leads elsewhere.


def reversed_gradient() -> nn.Module:
    """The gradient has the wrong sign."""
    return Defended(before=lambda x: _instead(x, -x))


def shattered_gradient() -> nn.Module:
    """A ripple far below a grey level, whose slope drowns that of the image."""
    return Defended(before=lambda x: x + 1e-4 * torch.sin(1e5 * x))


def decoy_gradient() -> nn.Module:
    """The gradient of a net that looks at other things: at the image turned upside down."""

    class Decoy(Defended):
        def forward(self, x: Tensor) -> Tensor:
            return _instead(self.net(x), self.net(x.flip(2).roll(3, 3)))

    return Decoy()


def faint_gradient() -> nn.Module:
    """The true gradient, made small, under that of a decoy."""

    class Faint(Defended):
        def forward(self, x: Tensor) -> Tensor:
            away = self.net(x.flip(3).roll(2, 2))
            true = self.net(x)
            return _instead(true, 1e-3 * true + away)

    return Faint()


def steep_steps() -> nn.Module:
    """Pixels through a staircase that is smooth, and flat almost everywhere."""
    return Defended(before=lambda x: ((x * 7).floor() + torch.sigmoid(400 * (x * 7 - (x * 7).floor() - 0.5))) / 7)


# Logits that losses cannot climb.


def saturated() -> nn.Module:
    """Logits a thousand times as large: softmax is exactly one-hot."""
    return Defended(after=lambda logits: 1000 * logits)


def probabilities() -> nn.Module:
    """Softmax of sharpened logits, where logits are asked for."""
    return Defended(after=lambda logits: (30 * logits).softmax(1))


def masked_gap() -> nn.Module:
    """The winner's logit lifted by a constant: cross-entropy saturates, the margin does not."""
    return Defended(after=lambda logits: logits + 200 * F.one_hot(logits.argmax(1), logits.shape[1]))


def nan_gradient() -> nn.Module:
    """A square root of zero: finite logits, and NaN as their gradient."""
    return Defended(before=lambda x: x + (x - x).abs().sqrt())


# Chance.


def noisy_input() -> nn.Module:
    """Gaussian noise on the image at each call."""
    return Defended(before=lambda x: x + 0.25 * torch.randn_like(x))


def noisy_rounded() -> nn.Module:
    """Noise, then rounding: chance and no gradient together."""
    return Defended(before=lambda x: ((x + 0.15 * torch.randn_like(x)) * 7).round() / 7)


def random_shift() -> nn.Module:
    """The image is moved by up to a pixel at each call."""

    def shift(x: Tensor) -> Tensor:
        dy, dx = (int(torch.randint(-1, 2, ())) for _ in range(2))
        return F.pad(x, (1, 1, 1, 1))[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx]

    return Defended(before=shift)


def dropped_pixels() -> nn.Module:
    """A third of the pixels go dark at each call."""
    return Defended(before=lambda x: x * (torch.rand_like(x) > 0.3))


def random_expert() -> nn.Module:
    """One of three nets answers, drawn at each call."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(_net(name) for name in ("natural_digits", "er_digits_clean", "mmc_digits"))

        def forward(self, x: Tensor) -> Tensor:
            chosen = int(torch.randint(len(self.nets), ()))
            return self.nets[chosen](x)  # type: ignore[no-any-return]

    return Experts()


def faint_noise() -> nn.Module:
    """Logits a trillionth of the usual size under noise of that size."""
    return Defended(after=lambda logits: 1e-12 * (logits + 2 * torch.randn_like(logits)))


# Not a function of one image.


def counting() -> nn.Module:
    """Every other call is answered by a net that was never asked before."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(_net(name) for name in ("natural_digits", "madry_digits"))
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.nets[self.calls % 2](x)  # type: ignore[no-any-return]

    return Counting()


def batch_statistics() -> nn.Module:
    """Images are brought to the mean and spread of the batch that they are in."""
    return Defended(before=lambda x: ((x - x.mean(0)) / (x.std(0, correction=0) + 0.3) * 0.3 + 0.35).clamp(0, 1))


# Set up wrongly.


def forgotten_normalisation() -> nn.Module:
    """The net is given images of another range than it was trained on."""
    return Defended(before=lambda x: x - 1.5)


def spare_class() -> nn.Module:
    """An eleventh class that takes whatever the net is unsure about."""
    return Defended(after=lambda logits: torch.cat([logits, 6 - logits.amax(1, keepdim=True)], 1))


# Sound.


def natural() -> nn.Module:
    """Without a defense: no attack fails."""
    return _net()


def adversarially_trained() -> nn.Module:
    """Adversarial training as it is."""
    return _net("madry_digits")


def scaled() -> nn.Module:
    """Logits ten times as large, which no attack should mind."""
    return Defended(after=lambda logits: 10 * logits, net="madry_digits")


def log_probabilities() -> nn.Module:
    """Log-softmax: logits by another name."""
    return Defended(after=lambda logits: logits.log_softmax(1), net="madry_digits")


def smooth_filter() -> nn.Module:
    """A differentiable filter in front of a net."""
    return Defended(before=lambda x: 0.8 * x + 0.2 * F.avg_pool2d(x, 3, 1, 1), net="madry_digits")


def two_nets() -> nn.Module:
    """The mean of two nets' logits."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(_net(name) for name in ("madry_digits", "trades_digits"))

        def forward(self, x: Tensor) -> Tensor:
            return (self.nets[0](x) + self.nets[1](x)) / 2  # type: ignore[no-any-return]

    return Pair()


BROKEN = (
    rounded_input,
    detached_input,
    thermometer,
    hard_logits,
    clipped_logits,
    block_coder,
    reversed_gradient,
    shattered_gradient,
    decoy_gradient,
    faint_gradient,
    steep_steps,
    saturated,
    probabilities,
    masked_gap,
    nan_gradient,
    noisy_input,
    noisy_rounded,
    random_shift,
    dropped_pixels,
    random_expert,
    faint_noise,
    counting,
    batch_statistics,
    forgotten_normalisation,
    spare_class,
)
SOUND = (natural, adversarially_trained, scaled, log_probabilities, smooth_filter, two_nets)
