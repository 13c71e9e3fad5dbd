"""A model's forward pass as a chain of operations, traced by torch.fx, each with what it is given besides its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils._python_dispatch import TorchDispatchMode

from bench.core.files import one_line
from bench.core.types import UserError

_TRACED = 5
"""Images that are traced: a number that no axis of an image is likely to have."""
REMEDY = "bench certify takes chains of linear, convolution, ReLU, pooling, flatten and normalisation layers"

_HARMLESS = ("dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking")


@dataclass(frozen=True)
class Operation:
    """A step of a chain: an operation of torch, the other arguments, and the shapes of one input and one output.

    `place` is where the input stands among the arguments; `name` says which operation, and of which layer.
    """

    target: str
    arguments: tuple[Any, ...]
    place: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str

    def refuse(self, why: str = "is not supported") -> UserError:
        """What to raise where bounds do not pass through it."""
        return UserError(f"layer {self.name} {why}: {REMEDY}")


def chain(model: nn.Module, images: Tensor) -> list[Operation]:
    """The operations from images (N, C, H, W) to logits, in order, of a model in evaluation mode.

    Raises:
        UserError: the forward pass is no chain: it decides by values, or joins two paths.
    """
    few = images[:1].repeat(_TRACED, 1, 1, 1)
    try:
        with torch.no_grad():
            graph = make_fx(model)(few)
    except Exception as fault:  # whatever a user's forward raises when it is traced
        why = "decides by the values it sees" if "data-dependent" in str(fault) else f"({one_line(fault, 100)})"
        raise UserError(f"{type(model).__name__}.forward cannot be traced: it {why}; {REMEDY}") from None
    values, depends = _values(graph, few)
    where = _Where(model, few)
    steps: list[Operation] = []
    node = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    if not isinstance(node, fx.Node) or node not in depends:
        raise UserError(f"{type(model).__name__}.forward does not depend on the image in a way that can be traced")
    while node.op != "placeholder":
        given = [source for source in node.all_input_nodes if source in depends]
        step, source = _operation(node, given, values, where)
        steps.append(step)
        node = source
    return [step for step in reversed(steps) if step.target != "getitem"]


def _values(graph: fx.GraphModule, few: Tensor) -> tuple[dict[fx.Node, Any], set[fx.Node]]:
    """What every node is on the traced images, and which of them depend on these."""
    values, depends = dict[fx.Node, Any](), set[fx.Node]()

    def known(argument: Any) -> Any:
        return map_arg(argument, values.__getitem__)

    with torch.no_grad():
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = few.clone()
                depends.add(node)
            elif node.op == "get_attr":
                values[node] = getattr(graph, node.target)
            elif node.op == "call_function":
                values[node] = node.target(*known(node.args), **known(node.kwargs))
                if depends.intersection(node.all_input_nodes):
                    depends.add(node)
    return values, depends


def _operation(
    node: fx.Node, given: list[fx.Node], values: dict[fx.Node, Any], where: _Where
) -> tuple[Operation, fx.Node]:
    """A node as an operation, and the node that it is applied to."""
    target = _named(node)
    earlier = takewhile(lambda other: other is not node, node.graph.nodes)
    name = where.named(target, sum(other.op == "call_function" and _named(other) == target for other in earlier))
    if len(given) != 1 or sum(argument is given[0] for argument in node.args) != 1:
        raise UserError(f"layer {name} joins two paths: {REMEDY}")
    (source,) = given
    before, after = values[source], values[node]
    if isinstance(before, tuple):  # one of several results: the first of a pool or of a normalisation
        if node.args[1] != 0:
            raise UserError(f"layer {name} uses more than the first result: {REMEDY}")
        return Operation("getitem", (), 0, (), (), name), source
    shape = tuple((after[0] if isinstance(after, tuple) else after).shape)
    if before.shape[0] != _TRACED or shape[0] != _TRACED:
        raise UserError(f"layer {name} mixes the images of a batch: {REMEDY}")
    place = next(number for number, argument in enumerate(node.args) if argument is source)
    arguments = tuple(map_arg(part, lambda one: None if one is source else values[one]) for part in node.args)
    if extra := [key for key, value in node.kwargs.items() if value is not None and key not in _HARMLESS]:
        raise UserError(f"layer {name} has {', '.join(extra)}, which is not supported: {REMEDY}")
    if not (after[0] if isinstance(after, tuple) else after).is_floating_point():
        raise UserError(f"layer {name} makes whole numbers: {REMEDY}")
    return Operation(target, arguments, place, tuple(before.shape[1:]), shape[1:], name), source


def _named(node: fx.Node) -> str:
    """`aten.max_pool2d_with_indices.default` as `max_pool2d_with_indices`."""
    target: Any = node.target
    packet = getattr(target, "overloadpacket", None)
    return str(packet.__name__ if packet is not None else getattr(target, "__name__", target)).rstrip("_")


class _Where(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Which module runs each operation of a forward pass: its class and its place, in the order of the passes."""

    def __init__(self, model: nn.Module, few: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stack, self._by = list[str](), dict[str, list[str]]()
        names = {module: name for name, module in model.named_modules()}
        hooks: list[Any] = []
        for module in names:
            if not isinstance(module, torch.jit.ScriptModule):
                hooks.append(module.register_forward_pre_hook(self._enter(names)))
                hooks.append(module.register_forward_hook(lambda *_: self._stack.pop() and None))
        try:
            with torch.no_grad(), self:
                model(few.clone())
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, names: dict[nn.Module, str]) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, _: Any) -> None:
            place = names[module]
            self._stack.append(f"{type(module).__name__}{f' ({place})' if place else ''}")

        return enter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        target = func.overloadpacket.__name__.rstrip("_")
        self._by.setdefault(target, []).append(self._stack[-1] if self._stack else "")
        return func(*args, **(kwargs or {}))

    def named(self, target: str, number: int) -> str:
        """An operation, the one of this number among those of its kind, with the module that runs it."""
        module = dict(enumerate(self._by.get(target, ()))).get(number)
        return f"{target.lstrip('_')}{f' of {module}' if module else ''}"
