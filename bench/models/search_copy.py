"""A cheaper form of the model for attacks to search on; what they find counts only if the model itself is fooled.

Three things may be done to the copy: `folded` takes batch normalisation into the layer before it, `channels_last` lays
weights out as convolution kernels like them, `rounded` computes in bfloat16. TF32 is no property of a copy but of the
process: `precision` sets it for a while.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core.files import one_line
from bench.core.types import Classifier, UserError
from bench.models.precision import in_bfloat16, precision
from bench.ops import passes

Dtype = Literal["float32", "tf32", "bf16"]
DTYPES: tuple[Dtype, ...] = ("float32", "tf32", "bf16")

_Model = TypeVar("_Model", bound=nn.Module)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_AGREES = 1e-4

# What is done is what paid in `benchmarks/throughput.py` (one thread of a CPU with bfloat16 units, a forward pass and
# an input gradient). In float32 folding and layout give 1.0 to 1.3 times the speed, and so float32 stays the model
# itself, to the bit. Bfloat16 alone gives 1.5 to 2.2, with both 1.5 to 3.8. torch.compile gives 0.9 to 1.3, compiles
# again for each number of images still in the batch, and stays out. Untested: TF32, any of it on a GPU, CPUs without
# such units.
#
# Bfloat16 is for attacks under a budget. Finds of a minimal attack lie at the boundary, and more than half of FMN's did
# not hold in float32. Under a budget it misses an image now and then that float32 finds: only a second search, in
# float32, of all that is not broken is never weaker than float32 alone.


@contextmanager
def searching(model: Classifier, dtype: Dtype, images: Tensor) -> Iterator[Classifier]:
    """Give the model to search with inside the block, and forbid TF32 there unless `dtype` asks for it.

    `float32` gives the model itself, so that nothing changes by a bit. See `search_model` for the rest.

    Raises:
        UserError: see `search_model`.
    """
    search = search_model(model, dtype, images)
    with precision(tf32=dtype == "tf32"):
        yield search


def search_model(model: Classifier, dtype: Dtype, images: Tensor) -> Classifier:
    """A form of a prepared model to search on: the model itself for `float32`, an independent copy otherwise.

    The copy keeps the model's class, methods and modules, takes and returns float32, and has its batch normalisation
    folded where that is proven right. It sits where the model sits.

    Args:
        model: in eval mode, weights frozen; a module unless `dtype` is `float32`.
        dtype: `tf32` needs a CUDA device and takes effect inside `searching` alone; `bf16` is autocast at each call.
        images: a few clean images (n, C, H, W), on the model's device, to see that folding changed nothing.

    Raises:
        UserError: no such dtype, TF32 without CUDA, or a model that cannot be copied.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown search dtype {dtype!r}: known: {', '.join(DTYPES)}")
    if dtype == "float32":
        return model
    if dtype == "tf32" and not images.is_cuda:
        raise UserError("search dtype 'tf32' needs a CUDA device: use bf16 or float32")
    if not isinstance(model, nn.Module):
        raise UserError(f"search dtype {dtype!r} needs an nn.Module, not {type(model).__name__}: use float32")
    search = channels_last(folded(model, images))
    return rounded(search) if dtype == "bf16" else search


def copied(model: _Model) -> _Model:
    """A copy that shares nothing with the model.

    Raises:
        UserError: it holds something that cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as fault:  # whatever a user's module holds may raise anything
        what = f"{type(model).__name__} cannot be copied ({one_line(fault)})"
        raise UserError(f"{what}: search in float32, or keep such things out of the module") from fault


def folded(model: _Model, images: Tensor) -> _Model:
    """A copy whose batch normalisations are part of the layer before them, where a trace proves them its only reader.

    Layers keep their places and names: the normalisation's becomes an identity. Where the model cannot be traced, or
    the result differs on `images` (n, C, H, W), the copy is left as it was.
    """
    pairs = _foldable(copied(model))
    result = copied(model)
    if not pairs:
        return result
    for layer, normalisation in pairs:
        _fold(result.get_submodule(layer), result.get_submodule(normalisation))
        parent, _, name = normalisation.rpartition(".")
        setattr(result.get_submodule(parent), name, nn.Identity())
    return result if _agree(model, result, images) else copied(model)


def channels_last(model: _Model) -> _Model:
    """A copy whose four-dimensional weights are stored with the channels innermost."""
    return copied(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def rounded(model: _Model) -> _Model:
    """A copy that computes in bfloat16 by autocast and returns float32, from each method that attacks call.

    Its class is a subclass of the model's, so that it can be copied again.
    """
    return in_bfloat16(copied(model))


class _Tracer(fx.Tracer):
    """Does not look into modules that hold no batch normalisation: what they do in Python cannot stop the trace."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step of the graph."""
        inner = any(isinstance(part, _BatchNorm) for part in m.modules())
        return not inner or super().is_leaf_module(m, module_qualified_name)


def _foldable(model: nn.Module) -> list[tuple[str, str]]:
    """Names of layers and of the batch normalisations that are their only readers; each is called once a pass.

    Tracing may leave marks on a module that keeps what it computes: give it a copy.
    """
    try:
        nodes = list(_Tracer().trace(model).nodes)
    except Exception:  # control flow that depends on the images, and whatever else a user's module does
        return []
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    parts = dict(model.named_modules())
    pairs = []
    for node in nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        names = str(before.target), str(node.target)
        once = all(calls[name] == 1 for name in names) and len(before.users) == 1
        if once and _fit(parts[names[0]], parts[names[1]]):
            pairs.append(names)
    return pairs


def _fit(layer: nn.Module, normalisation: nn.Module) -> bool:
    """Whether the two compute what their classes say, with statistics that are settled."""
    plain = type(layer) in _LAYERS and type(normalisation) in _NORMALISATIONS
    hooks = (part._forward_hooks or part._forward_pre_hooks for part in (layer, normalisation))
    return plain and not any(hooks) and not normalisation.training and normalisation.running_mean is not None


def _fold(layer: Any, normalisation: Any) -> None:
    """Take scale and shift of a batch normalisation into a layer's weights; in double precision, rounded once.

    Any: torch types the attributes of both as tensors or modules, and the optional ones not at all.
    """
    mean, weight = normalisation.running_mean.double(), layer.weight.double()
    scale = (normalisation.running_var.double() + normalisation.eps).rsqrt()
    shift = torch.zeros_like(mean)
    if normalisation.affine:
        scale, shift = scale * normalisation.weight.double(), normalisation.bias.double()
    bias = 0 if layer.bias is None else layer.bias.double()
    products = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    # New parameters, not new values: another layer may share the old ones.
    layer.weight = nn.Parameter(products.to(layer.weight), requires_grad=False)
    layer.bias = nn.Parameter(((bias - mean) * scale + shift).to(layer.weight), requires_grad=False)


def _agree(model: nn.Module, other: nn.Module, images: Tensor) -> bool:
    """Whether logits, and features where there are any, are the same to 1e-4 of their spread."""
    for name in ("__call__", "features"):
        if not callable(getattr(model, name, None)):
            continue
        try:
            ours, theirs = (passes.reference_outputs(getattr(part, name), images) for part in (model, other))
        except Exception:  # a module that reads its normalisation's weights finds them gone
            return False
        spread = (ours.amax() - ours.amin()).clamp_min(1e-6)
        if not bool(((ours - theirs).abs() <= _AGREES * spread).all()):
            return False
    return True
