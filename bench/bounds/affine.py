"""The affine maps that bounds pass through, in float64.

An affine map gives itself, |A| x, its transpose A^T and b. With them goes the number of products in its longest sum,
from which the rounding of every result is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

Shape = tuple[int, ...]


class Affine(Protocol):
    """The map x -> A x + b of tensors (N, *inputs) to (N, *outputs)."""

    @property
    def inputs(self) -> Shape:
        """The shape of one input."""
        ...

    @property
    def outputs(self) -> Shape:
        """The shape of one output."""
        ...

    @property
    def terms(self) -> int:
        """The most products in a sum, forward or transposed."""
        ...

    @property
    def mixes(self) -> bool:
        """Whether an output depends on more than one input."""
        ...

    def apply(self, x: Tensor) -> Tensor:
        """A x + b."""
        ...

    def absolute(self, x: Tensor) -> Tensor:
        """|A| x."""
        ...

    def transposed(self, rows: Tensor) -> Tensor:
        """A^T of each of rows (R, *outputs), as (R, *inputs)."""
        ...

    def offset(self) -> Tensor:
        """b (*outputs), or what broadcasts to it."""
        ...


@dataclass(frozen=True)
class Dense:
    """x -> x W^T + b on the last axis, W (D, E) and b (D,)."""

    weight: Tensor
    bias: Tensor
    inputs: Shape
    outputs: Shape
    mixes: bool = True

    @property
    def terms(self) -> int:
        """Inputs or outputs, whichever are more."""
        return max(self.weight.shape)

    def apply(self, x: Tensor) -> Tensor:
        """A x + b."""
        return x @ self.weight.T + self.bias

    def absolute(self, x: Tensor) -> Tensor:
        """|A| x."""
        return x @ self.weight.abs().T

    def transposed(self, rows: Tensor) -> Tensor:
        """A^T of rows."""
        return rows @ self.weight

    def offset(self) -> Tensor:
        """The bias, broadcast."""
        return self.bias.expand(self.outputs)


@dataclass(frozen=True)
class Convolution:
    """A 2-D convolution of weights (O, I / groups, h, w) and bias (O,)."""

    weight: Tensor
    bias: Tensor
    inputs: Shape
    outputs: Shape
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    mixes: bool = True

    @property
    def terms(self) -> int:
        """Products of one output, or outputs of one input, whichever are more."""
        return max(self.weight[0].numel(), self.weight.shape[0] * math.prod(self.weight.shape[2:]))

    def _by(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def apply(self, x: Tensor) -> Tensor:
        """A x + b."""
        return self._by(x, self.weight, self.bias)

    def absolute(self, x: Tensor) -> Tensor:
        """|A| x."""
        return self._by(x, self.weight.abs(), None)

    def transposed(self, rows: Tensor) -> Tensor:
        """A^T of rows."""
        shape = (len(rows), *self.inputs)
        how = (self.stride, self.padding, self.dilation, self.groups)
        result: Tensor = conv2d_input(shape, self.weight, rows, *how)  # type: ignore[no-untyped-call]
        return result

    def offset(self) -> Tensor:
        """The bias, broadcast."""
        return self.bias.view(-1, 1, 1).expand(self.outputs)


@dataclass(frozen=True)
class Scale:
    """x -> scale * x + shift, element by element; both broadcast to (*inputs)."""

    scale: Tensor
    shift: Tensor
    inputs: Shape
    outputs: Shape
    terms: int = 2
    mixes: bool = False

    def apply(self, x: Tensor) -> Tensor:
        """A x + b."""
        return x * self.scale + self.shift

    def absolute(self, x: Tensor) -> Tensor:
        """|A| x."""
        return x * self.scale.abs()

    def transposed(self, rows: Tensor) -> Tensor:
        """A^T of rows."""
        return rows * self.scale

    def offset(self) -> Tensor:
        """The shift, broadcast."""
        return self.shift.expand(self.outputs)


@dataclass(frozen=True)
class Spread:
    """A linear map without negative coefficients and without bias: shapes changed, values chosen, padded, averaged."""

    action: Callable[[Tensor], Tensor]
    inputs: Shape
    outputs: Shape
    mixes: bool = False

    @property
    def terms(self) -> int:
        """No more than there are values."""
        return max(math.prod(self.inputs), math.prod(self.outputs))

    def apply(self, x: Tensor) -> Tensor:
        """A x."""
        return self.action(x)

    def absolute(self, x: Tensor) -> Tensor:
        """|A| x, which is A x."""
        return self.action(x)

    def transposed(self, rows: Tensor) -> Tensor:
        """A^T of rows, by the backward pass."""
        with torch.enable_grad():
            x = torch.zeros(len(rows), *self.inputs, dtype=rows.dtype, requires_grad=True)
            (result,) = torch.autograd.grad(self.action(x), x, rows)
        return result

    def offset(self) -> Tensor:
        """No offset."""
        return torch.zeros((), dtype=torch.float64).expand(self.outputs)


@dataclass(frozen=True)
class Combine:
    """x -> M x along axis 1 of values (J, ...), M (I, J) of whole numbers, as pairs are compared and joined."""

    matrix: Tensor
    inputs: Shape
    outputs: Shape
    mixes: bool = True

    @property
    def terms(self) -> int:
        """Inputs or outputs, whichever are more."""
        return max(self.matrix.shape)

    def _by(self, x: Tensor, matrix: Tensor) -> Tensor:
        return torch.einsum("ij,nj...->ni...", matrix, x)

    def apply(self, x: Tensor) -> Tensor:
        """A x."""
        return self._by(x, self.matrix)

    def absolute(self, x: Tensor) -> Tensor:
        """|A| x."""
        return self._by(x, self.matrix.abs())

    def transposed(self, rows: Tensor) -> Tensor:
        """A^T of rows."""
        return self._by(rows, self.matrix.T)

    def offset(self) -> Tensor:
        """No offset."""
        return torch.zeros((), dtype=torch.float64).expand(self.outputs)
