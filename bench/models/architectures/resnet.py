"""Residual nets for 32x32 images: ResNet-18, pre-activation ResNet-18, and the ResNet of Madry et al."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.registry import architectures
from bench.models.architectures.assembly import Assembled, Top, assemble, he_normal


def _conv(into: int, out: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(into, out, kernel, stride=stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, ReLU after the sum (He et al. 2016a)."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(into, out, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = _conv(out, out), nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or into != out:
            self.shortcut = nn.Sequential(_conv(into, out, stride, kernel=1), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, into, H, W) to (N, out, H / stride, W / stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class PreActBlock(nn.Module):
    """Normalisation and ReLU before each convolution; a shortcut that changes shape shares them (He et al. 2016b)."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(into), _conv(into, out, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(out), _conv(out, out)
        self.shortcut = None
        if stride != 1 or into != out:
            self.shortcut = nn.Sequential(_conv(into, out, stride, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, into, H, W) to (N, out, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        summed: Tensor = kept + self.conv2(F.relu(self.bn2(self.conv1(active))))
        return summed


class _ResNet18(nn.Module):
    def __init__(self, block: type[BasicBlock] | type[PreActBlock], in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width)
        self.preactivation = block is PreActBlock
        if not self.preactivation:
            self.bn1 = nn.BatchNorm2d(width)
        into = width
        for number in range(1, 5):
            out, stride = width * 2 ** (number - 1), 1 if number == 1 else 2
            self.add_module(f"layer{number}", nn.Sequential(block(into, out, stride), block(out, out, 1)))
            into = out
        if self.preactivation:
            self.bn = nn.BatchNorm2d(into)
        self.width = into

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to pooled features (N, 8 * width), not negative."""
        out = self.conv1(x)
        if not self.preactivation:
            out = F.relu(self.bn1(out))
        for number in range(1, 5):
            out = self.get_submodule(f"layer{number}")(out)
        if self.preactivation:
            out = F.relu(self.bn(out))
        return torch.mean(out, (2, 3))


@architectures.register("resnet18")
def resnet18(*, in_channels: int = 3, width: int = 64, **top: Unpack[Top]) -> Assembled:
    """ResNet-18 with a 3x3 stem of stride 1, as is usual for 32x32 images (after He et al. 2016a).

    Weights under the usual names load with `rename = {"linear." = "head.", "" = "body."}`.
    """
    body = _ResNet18(BasicBlock, in_channels, width)
    return assemble(body, body.width, **top)


@architectures.register("preact_resnet18")
def preact_resnet18(*, in_channels: int = 3, width: int = 64, **top: Unpack[Top]) -> Assembled:
    """Pre-activation ResNet-18 with a last normalisation and ReLU before pooling (Rice et al. 2020, after He 2016b)."""
    body = _ResNet18(PreActBlock, in_channels, width)
    return assemble(body, body.width, **top)


class StandardiseImage(nn.Module):
    """Each image to mean 0 and standard deviation 1, which is held above 1 / sqrt(CHW) (TensorFlow's function)."""

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to the same shape."""
        centred = x - x.mean((1, 2, 3), keepdim=True)
        # Clamping the variance, not its root: the gradient of a root at 0 is infinite and a flat image would give NaN.
        variance = centred.square().mean((1, 2, 3), keepdim=True).clamp_min(1 / x.shape[1:].numel())
        return centred / variance.sqrt()


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.1)


class _MadryUnit(nn.Module):
    def __init__(self, into: int, out: int, stride: int, shared: bool) -> None:
        super().__init__()
        self.bn1, self.bn2 = _norm(into), _norm(out)
        self.conv1 = nn.Conv2d(into, out, 3, stride=stride, padding=1 if stride == 1 else 0, bias=False)
        self.conv2 = _conv(out, out)
        self.stride, self.shared, self.more = stride, shared, out - into

    def forward(self, x: Tensor) -> Tensor:
        """(N, into, H, W) to (N, out, H / stride, W / stride)."""
        active = F.leaky_relu(self.bn1(x), 0.1)
        kept = active if self.shared else x
        if self.stride == 2:
            # TensorFlow's SAME padding of an even side at stride 2 pads the far edge only.
            active, kept = F.pad(active, (0, 1, 0, 1)), F.avg_pool2d(kept, 2)
        out = self.conv2(F.leaky_relu(self.bn2(self.conv1(active)), 0.1))
        half = self.more // 2
        summed: Tensor = out + F.pad(kept, (0, 0, 0, 0, half, self.more - half))
        return summed


class _MadryBody(nn.Module):
    def __init__(self, in_channels: int, widen: int, units: int) -> None:
        super().__init__()
        self.standardise = StandardiseImage()
        self.stem = _conv(in_channels, 16)
        chain, into = [], 16
        for stage, base in enumerate((16, 32, 64)):
            for unit in range(units):
                stride = 2 if stage and not unit else 1
                chain.append(_MadryUnit(into, base * widen, stride, shared=not stage and not unit))
                into = base * widen
        self.units = nn.Sequential(*chain)
        self.bn = _norm(into)
        self.width = into

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to pooled features (N, 64 * widen)."""
        out = self.units(self.stem(self.standardise(x)))
        return torch.mean(F.leaky_relu(self.bn(out), 0.1), (2, 3))


@architectures.register("madry_resnet")
def madry_resnet(*, in_channels: int = 3, widen: int = 1, units: int = 5, **top: Unpack[Top]) -> Assembled:
    """The CIFAR-10 ResNet of Madry et al. (2018), which ADR calls RN-34-10: narrow (widen 1) or wide (10).

    Three stages of `units` pre-activation units with leaky ReLU .1; shortcuts that change shape are average pooling and
    zero channels; images are standardised one by one. Even sides only match the original's padding.
    """
    body = _MadryBody(in_channels, widen, units)
    he_normal(body, "fan_out")
    return assemble(body, body.width, **top)
