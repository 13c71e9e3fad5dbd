"""Tensors of a file into a model: nothing in the file is ever executed, and every tensor has to fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from bench.core.files import one_line
from bench.core.types import UserError

_WRAPPERS = ("state_dict", "model_state_dict", "net", "model")
_PREFIXES = ("module.", "_orig_mod.")
_DROP = "-"
_REFUSED = ("Unsupported global", "Unsupported class", "Unsupported operand", "GLOBAL")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state_dict in a `.safetensors` file, or in a torch file (`.pt`, `.pth`), on the CPU.

    Wrappers ({"state_dict": ...}, {"net": ...}) and the prefixes of DataParallel and torch.compile are taken off.

    Raises:
        UserError: the file is damaged, holds code, or holds no tensors.
    """
    content = load_safely(path)
    while wrapper := next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None):
        content = content[wrapper]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(content):
        held = ", ".join(str(name) for name in list(content)[:5])
        raise UserError(f"{path} is not a state_dict (it holds {held or 'nothing'}): save model.state_dict() alone")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def load_safely(path: Path) -> Mapping[Any, Any]:
    """The mapping in a safetensors or torch file, without running any code that it may hold.

    Raises:
        UserError: the file is damaged, holds code, or is not a mapping.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a damaged or hostile file can make the readers raise anything
        text = one_line(fault)
        if any(sign in text for sign in _REFUSED):
            raise UserError(
                f"{path} holds more than tensors, and code in a checkpoint is never run: "
                "save model.state_dict() alone, or convert it to safetensors"
            ) from fault
        raise UserError(f"{path} cannot be read as weights ({text[:120]}): copy or download it again") from fault
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is not a state_dict (it holds a {type(content).__name__}): save model.state_dict()")
    return content


def renamed(tensors: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors under the model's names: the longest matching prefix of `rename` is replaced; "-" drops the tensor.

    The prefix "" matches every name that no longer prefix does.

    Raises:
        UserError: two tensors end under one name.
    """
    prefixes = sorted(rename, key=len, reverse=True)
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is not None and rename[prefix] == _DROP:
            continue
        new = name if prefix is None else rename[prefix] + name.removeprefix(prefix)
        if new in result:
            raise UserError(f"rename gives two tensors the name {new!r}: correct its prefixes")
        result[new] = tensor
    return result


def _named(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def fit(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a model whose names and shapes they must match; half precision is widened.

    Counts of batches seen in training may be absent: nothing uses them when a model is evaluated.

    Raises:
        UserError: tensors are missing, left over, or of another shape or kind; the model is then unchanged.
    """
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    extra = [name for name in tensors if name not in wanted]
    unlike = [
        f"{name} {tuple(tensor.shape)} for {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if name in wanted
        and (tensor.shape != wanted[name].shape or tensor.is_floating_point() != wanted[name].is_floating_point())
    ]
    faults = (("missing", missing), ("not in the model", extra), ("of another shape", unlike))
    texts = [f"{what}: {_named(names)}" for what, names in faults if names]
    if texts:
        raise UserError(f"the weights do not fit the architecture ({'; '.join(texts)}): correct arch, args or rename")
    model.load_state_dict(dict(tensors), strict=False)


def state_sha256(model: nn.Module) -> str:
    """The sha256 of a model's parameters and buffers: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, UninitializedParameter | UninitializedBuffer):
            raise UserError(f"the model's {name} has no shape yet: pass one batch of images through the model first")
        for part in _pieces(name, value):
            digest.update(part)
    return digest.hexdigest()


def _pieces(name: str, value: Any) -> Iterator[Any]:
    """What is hashed of an entry of a state: quantised and packed weights, and extra state, too.

    Of an object that is no tensor, number or text only its type.
    """
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
        if tensor.is_quantized:
            yield str(tensor.qscheme()).encode() + str(tensor.dequantize().double().sum().item()).encode()
            tensor = tensor.int_repr()
        yield tensor.reshape(-1).view(torch.uint8).numpy()
    elif isinstance(value, Mapping | tuple | list):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            yield from _pieces(f"{name}.{key}", part)
    else:
        plain = isinstance(value, str | int | float | bool | bytes | torch.dtype | None)
        yield f"{name} {value!r}\n".encode() if plain else f"{name} {type(value).__name__}\n".encode()
