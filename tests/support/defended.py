"""Defenses that break gradients or draw random numbers around a sound digits classifier; none makes it more robust."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models import checkpoints

SOUND = "mat_digits_plain"


class Defended(nn.Module):
    """A classifier behind `before`, which changes images, and in front of `after`, which changes logits."""

    def __init__(self, before=None, after=None) -> None:
        super().__init__()
        self.net = checkpoints.load(SOUND).model
        self.before, self.after = before or (lambda x: x), after or (lambda logits: logits)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.after(self.net(self.before(x)))


class Reversed(torch.autograd.Function):
    """The identity, whose gradient points the wrong way."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Zeroed(torch.autograd.Function):
    """A quantiser in the newer form of custom functions, without a gradient."""

    @staticmethod
    def forward(x):
        return torch.round(x * 8) / 8

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


class Filter(nn.Module):
    """A part of its own that numpy computes in inference mode."""

    @torch.inference_mode()
    def forward(self, x):
        """Images of 5 levels."""
        return torch.from_numpy(np.round(x.numpy() * 4) / 4)


class Staircase(nn.Module):
    """A quantiser made of steep sigmoids: it has a gradient, which is next to nothing or huge."""

    def forward(self, x):
        """Images of 9 levels."""
        edges = (torch.arange(8) + 0.4375) / 8
        return torch.sigmoid(1e5 * (x.unsqueeze(-1) - edges)).mean(-1)


class Tangled(nn.Module):
    """Small ripples with a steep slope, made of steps that no rule knows."""

    def forward(self, x):
        """Images much like those that came in."""
        ripple = torch.atan(torch.tan((x + 0.01) * 2000))
        return x - 1e-3 * ripple


def without_gradient(x):
    with torch.no_grad():
        return torch.floor(x * 8 + 0.5) / 8


def in_place(x):
    y = x.clone()
    return y.mul_(8).round_().div_(8)


def pillow(x):
    made = []
    for image in x:
        pixels = (image[0].detach().cpu().numpy() * 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=75)
        made.append(torch.from_numpy(np.asarray(Image.open(file)).copy()[None]).float() / 255)
    return torch.stack(made)


def turned(x):
    """Channels last while numpy has them."""
    pixels = np.moveaxis(x.detach().numpy(), 1, -1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.round(pixels * 8) / 8, -1, 1)))


def blocks(x, step=0.15):
    """JPEG's idea: the cosine transform's coefficients are rounded."""
    k, i = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = torch.cos((2 * i + 1) * k * torch.pi / 16) / 2
    basis[0] /= 2**0.5
    steps = step * (1 + torch.arange(8)[:, None] + torch.arange(8)) / 4
    return (basis.T @ (torch.round(basis @ x @ basis.T / steps) * steps) @ basis).clamp(0, 1)


def palette(x):
    edges = (torch.arange(7) + 1) / 8
    return torch.linspace(0, 1, 8)[torch.bucketize(x.detach(), edges)]


def nearest(x):
    levels = torch.linspace(0, 1, 8)
    return levels[(x.unsqueeze(-1) - levels).square().argmin(-1)]


def hooked(x):
    y = x * 1
    if y.requires_grad:
        y.register_hook(torch.zeros_like)
    return y


BLUNTED = {
    "rounded": lambda x: torch.round(x * 4) / 4,
    "in_place": in_place,
    "without_gradient": without_gradient,
    "bytes": lambda x: (x * 255).to(torch.uint8).float() / 255,
    "bits": lambda x: ((x * 255).byte() & 0xE0).float() / 255,
    "shifted": lambda x: (((x * 255).int() >> 5) << 5) / 255,
    "whole_quotients": lambda x: (x * 8 // 1) / 8,
    "remainder": lambda x: x - x % (1 / 8),
    "detached": lambda x: x.detach(),
    "data": lambda x: x.data,
    "mirrored": lambda x: 2 * x.detach() - x,
    "decoy": lambda x: x.detach() + 1e3 * (x.flip(-1) - x.flip(-1).detach()),
    "hooked": hooked,
    "reversed": Reversed.apply,
    "zeroed": Zeroed.apply,
    "part": Filter(),
    "pillow": pillow,
    "array": lambda x: torch.from_numpy(np.round(x.detach().numpy() * 4) / 4),
    "turned": turned,
    "blocks": blocks,
    "palette": palette,
    "nearest": nearest,
    "thermometer": lambda x: (x.unsqueeze(-1) > torch.linspace(0.05, 0.95, 10)).float().mean(-1),
    "one_hot": lambda x: (F.one_hot((x * 9.999).long(), 10).float() * torch.linspace(0, 1, 10)).sum(-1),
    "threshold": lambda x: torch.where(x > 0.5, torch.ones_like(x), torch.zeros_like(x)) * 0.5 + x.detach() * 0.5,
    "staircase": Staircase(),
    "tangled": Tangled(),
    "waved": lambda x: x + 0.02 * torch.sign(torch.sin(300 * x)),
}
"""What is done to images, by name: gradients that are zero, absent, hidden or wrong."""


class Resized(nn.Module):
    """A size and a place drawn for the whole batch, as in Xie et al. (2018), from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.default_rng(0)

    def forward(self, x):
        """Images of the same shape."""
        side = int(self.random.integers(6, 9))
        top, left = (int(self.random.integers(0, 9 - side)) for _ in range(2))
        small = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        return F.pad(small, (left, 8 - side - left, top, 8 - side - top))


class Dropped(Defended):
    """Dropout that stays on."""

    def forward(self, x):
        """Logits (N, K)."""
        return self.net.classify(F.dropout(self.net.features(x), 0.4, training=True))


RANDOM = {
    "noise": lambda: Defended(lambda x: x + 0.1 * torch.randn_like(x)),
    "resized": lambda: Defended(Resized()),
    "dropout": Dropped,
    "logit_noise": lambda: Defended(after=lambda logits: logits + 0.5 * logits.std() * torch.randn_like(logits)),
}
"""Models that draw, by name."""


def noisy() -> nn.Module:
    """A factory, for the command line."""
    return RANDOM["noise"]()


def blunted() -> nn.Module:
    """A factory, for the command line."""
    return Defended(BLUNTED["rounded"])


def smooth(model, x):
    """The classifier without its defense, as a stand-in."""
    return model.net(x)


def unrounded(x):
    """Images, as a stand-in for the quantiser."""
    return x * 1.0


def dead(x):
    """No gradient at all."""
    return x.detach()
