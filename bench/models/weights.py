"""Tensors of a file into a model: nothing in the file is ever executed, and every tensor has to fit."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bench.core.files import check_unpacked, one_line, opened
from bench.core.text import shown
from bench.core.types import UserError

_WRAPPERS = ("state_dict", "model_state_dict", "net", "model")
_PREFIXES = ("module.", "_orig_mod.")
_DROP = "-"
_DEEPEST, _LONGEST_TEXT = 8, 5000
_LONGEST_HEADER, _SPARE, _COPIES = 1 << 24, 1 << 26, 8
"""Bytes of a safetensors header; bytes that a packed file may unpack to, beside so many times the model's."""
_REFUSED = ("Unsupported global", "Unsupported class", "Unsupported operand", "GLOBAL")


def read_tensors(path: Path, needed: int = 0) -> dict[str, Tensor]:
    """The state_dict in a `.safetensors` file, or in a torch file (`.pt`, `.pth`), on the CPU.

    Wrappers ({"state_dict": ...}, {"net": ...}) and the prefixes of DataParallel and torch.compile are taken off, in
    whichever order they were put on.

    Args:
        path: the file.
        needed: the bytes of the model that it is for, which bound what a packed file may unpack to.

    Raises:
        UserError: the file is damaged, unpacks to far more than is needed, holds code, or holds no ordinary tensors.
    """
    content = _unwrapped(path, load_safely(path, needed))
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(content):
        held = ", ".join(shown(name) for name in list(content)[:5])
        raise UserError(f"{path} is not a state_dict (it holds {held or 'nothing'}): save model.state_dict() alone")
    for name, tensor in tensors.items():
        if kind := _unusual(tensor):
            raise UserError(f"{path} holds {shown(name)} as {kind}, not as plain numbers: save dense float tensors")
    while prefix := next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _unwrapped(path: Path, content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The state_dict inside its wrappers."""
    for _ in range(_DEEPEST):
        wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if wrapper is None:
            return content
        content = content[wrapper]
    raise UserError(f"{path} is not a state_dict (it holds one in another without end): save model.state_dict() alone")


def _unusual(tensor: Tensor) -> str:
    """What kind of tensor it is, if its numbers do not simply lie in memory."""
    if tensor.layout != torch.strided:
        return "a sparse tensor"
    kinds = {
        "a nested tensor": tensor.is_nested,
        "a tensor without content": tensor.is_meta,
        "a quantised tensor": tensor.is_quantized,
        "complex numbers": tensor.is_complex(),
        f"a {type(tensor).__name__}": type(tensor) not in (Tensor, nn.Parameter, nn.Buffer),
    }
    return next((kind for kind, holds in kinds.items() if holds), "")


def load_safely(path: Path, needed: int = 0) -> Mapping[Any, Any]:
    """The mapping in a safetensors or torch file, without running any code that it may hold.

    Raises:
        UserError: the file is damaged, unpacks to far more than `needed` bytes, holds code, or is not a mapping.
    """
    _check_declared(path, needed)
    try:
        with warnings.catch_warnings():  # of kinds of tensors that are refused below
            warnings.simplefilter("ignore")
            if path.suffix == ".safetensors":
                return load_file(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (Exception, RecursionError) as fault:  # a damaged or hostile file can make the readers raise anything
        text = one_line(fault, _LONGEST_TEXT)
        if any(sign in text for sign in _REFUSED):
            raise UserError(
                f"{path} holds more than tensors, and code in a checkpoint is never run: "
                "save model.state_dict() alone, or convert it to safetensors"
            ) from fault
        raise UserError(f"{path} cannot be read as weights ({text[:120]}): copy or download it again") from fault
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is not a state_dict (it holds a {type(content).__name__}): save model.state_dict()")
    return content


def _check_declared(path: Path, needed: int) -> None:
    """Refuse a file that declares more than it can hold or than is needed, before a reader takes the memory."""
    if path.suffix != ".safetensors":
        return check_unpacked(path, _SPARE + _COPIES * needed)
    with opened(path) as file:
        declared = int.from_bytes(file.read(8), "little")
    if declared > _LONGEST_HEADER:
        text = f"its header has {declared:,} bytes, more than {_LONGEST_HEADER:,}"
        raise UserError(f"{path} cannot be read as weights ({text}): copy or download it again")
    return None


def size_of(model: nn.Module) -> int:
    """The bytes of a model's parameters and buffers."""
    sized = [tensor for tensor in model.state_dict().values() if isinstance(tensor, Tensor) and not is_lazy(tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in sized)


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
        if is_lazy(value):
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
