"""Wide residual nets (Zagoruyko and Komodakis 2016), the form that TRADES and most later defenses train."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.registry import architectures
from bench.core.types import UserError
from bench.models.architectures.assembly import Assembled, Top, assemble, he_normal


class WideBlock(nn.Module):
    """A pre-activation block; where the width changes, the 1x1 shortcut starts from the activation."""

    def __init__(self, into: int, out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(into)
        self.conv1 = nn.Conv2d(into, out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.dropout = dropout
        # The field's name, so that published weights load.
        self.convShortcut = None if into == out else nn.Conv2d(into, out, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, into, H, W) to (N, out, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        kept = x if self.convShortcut is None else self.convShortcut(active)
        out = F.relu(self.bn2(self.conv1(active)))
        if self.dropout:
            out = F.dropout(out, self.dropout, self.training)
        summed: Tensor = kept + self.conv2(out)
        return summed


class _Group(nn.Module):
    def __init__(self, count: int, into: int, out: int, stride: int, dropout: float) -> None:
        super().__init__()
        blocks = [WideBlock(out if i else into, out, 1 if i else stride, dropout) for i in range(count)]
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, into, H, W) to (N, out, H / stride, W / stride)."""
        out: Tensor = self.layer(x)
        return out


class _WideBody(nn.Module):
    def __init__(self, count: int, widen: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = _Group(count, 16, 16 * widen, 1, dropout)
        self.block2 = _Group(count, 16 * widen, 32 * widen, 2, dropout)
        self.block3 = _Group(count, 32 * widen, 64 * widen, 2, dropout)
        self.bn1 = nn.BatchNorm2d(64 * widen)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to pooled features (N, 64 * widen), not negative."""
        return F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x)))))).mean((2, 3))


@architectures.register("wide_resnet")
def wide_resnet(
    depth: int = 34, widen: int = 10, *, in_channels: int = 3, dropout: float = 0.0, **top: Unpack[Top]
) -> Assembled:
    """WRN-depth-widen; the default is WRN-34-10 (46.2 million parameters).

    TRADES' weights load with `rename = {"fc." = "head.", "sub_block1." = "-", "" = "body."}`.

    Raises:
        UserError: depth is not 6n + 4.
    """
    count, left = divmod(depth - 4, 6)
    if left or count < 1:
        raise UserError(f"no wide ResNet of depth {depth}: give 6n + 4, such as 16, 28 or 34")
    body = _WideBody(count, widen, in_channels, dropout)
    he_normal(body, "fan_out")
    return assemble(body, 64 * widen, **top)
