"""A model with its own values and the gradient of a stand-in (BPDA; Athalye et al. 2018)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.files import one_line, sha256_of
from bench.core.types import Classifier, UserError
from bench.models import checkpoints, factory
from bench.models.adapted import Adapted, adapted
from bench.models.weights import state_sha256
from bench.ops import losses, passes
from bench.ops.draws import Delegate
from bench.ops.global_random import seeded
from bench.ops.stand_ins.custom_gradients import Unhooked
from bench.ops.stand_ins.mode import through
from bench.ops.stand_ins.rules import StandIns

IDENTITY = "identity"

Surrogate = Callable[[Tensor], Tensor]


class StoodIn(Delegate):
    """The model's values and, where a gradient is asked for, the derivative of its values with steps made lines.

    With a `surrogate` it is that of the surrogate instead: of its logits, or where it returns images, of the model on
    those images (`whole` tells which).
    """

    def __init__(self, model: Any, surrogate: Surrogate | None = None, whole: bool = False) -> None:
        super().__init__(model)
        object.__setattr__(self, "surrogate", surrogate)  # not a part of the model: its weights are another's
        self.whole = whole
        self._unhooked = Unhooked(model)

    def answer(self, name: str, x: Tensor) -> Tensor:
        """See `Delegate`."""
        call = self.inner if name == "__call__" else getattr(self.inner, name)
        if not (torch.is_grad_enabled() and x.requires_grad):
            result: Tensor = call(x)
            return result
        # Features that are classified have their gradient from where they were made.
        if self.surrogate is None or name == "classify":
            return self._smooth(call, x)
        with torch.no_grad():
            value = call(x.detach())
        if not self.whole:
            return through(value, self._smooth(call, self.surrogate(x)))
        of_surrogate = self.surrogate if name == "__call__" else getattr(self.surrogate, name, None)
        stand_in = None if of_surrogate is None else of_surrogate(x)
        fits = stand_in is not None and stand_in.shape == value.shape
        return through(value, stand_in if fits and stand_in is not None else self._smooth(call, x))

    def without_spoilt(self, images: Tensor) -> StoodIn:
        """The same, with the parts of the model that spoil a gradient on images (n, C, H, W) taken for the identity."""
        y = torch.arange(len(images), device=images.device)

        def once() -> Tensor:
            logits = self._smooth(self.inner, images.clone().requires_grad_(True))
            return losses.cross_entropy(logits, y % logits.shape[1])

        # What fails here is told by the trial of the whole.
        with torch.enable_grad(), suppress(RuntimeError):
            self._unhooked.find_spoilt(once, images.shape[1:])
        return self

    def _smooth(self, call: Surrogate, x: Tensor) -> Tensor:
        with self._unhooked(), StandIns():
            # Not the leaf itself: the model may write to what it is given.
            return call(x.clone())


@dataclass(frozen=True)
class Backward:
    """What gradients come from: a name for the record, the hash of what stands behind it, and the surrogate if any."""

    name: str
    sha256: str = ""
    surrogate: Any = None

    def of(self, model: Classifier, images: Tensor) -> StoodIn:
        """The model with these gradients, tried on a few images (n, C, H, W).

        Raises:
            UserError: the surrogate fits neither logits nor images, values change, or there is still no gradient.
        """
        if self.surrogate is None:
            return _tried(StoodIn(model).without_spoilt(images), self.name, images)
        own = model.model if isinstance(model, Adapted) else model
        surrogate = _of_images(self.surrogate, own, self.name)
        if isinstance(surrogate, nn.Module):
            surrogate = adapted(surrogate, images)
        seen = _called(surrogate, images, self.name)
        logits = passes.reference_outputs(model, images)
        if seen.shape not in (images.shape, logits.shape):
            fault = f"--backward {self.name} returns {tuple(seen.shape)} for images {tuple(images.shape)}"
            raise UserError(f"{fault}: return logits {tuple(logits.shape)}, or images")
        return _tried(StoodIn(model, surrogate, seen.shape == logits.shape), self.name, images)


def named(asked: Any, device: str) -> Backward | None:
    """What `--backward` names, or the object that a caller of `bench.evaluate` gives; None for the model's own.

    `identity`; `file.py:NAME` or `package.module:NAME`, a module, a function of images or of the model and images, or
    a factory of one of these that takes no argument; a model of the registry.

    Raises:
        UserError: there is no such thing.
    """
    if asked is None or isinstance(asked, Backward):
        return asked
    if asked == IDENTITY:
        return Backward(IDENTITY)
    if not isinstance(asked, str):
        if not callable(asked):
            raise UserError(f"backward is {type(asked).__name__}: give 'identity', a name, a module or a function")
        name = getattr(asked, "__qualname__", type(asked).__name__)
        return Backward(name, state_sha256(asked) if isinstance(asked, nn.Module) else "", _ready(asked, device))
    if not factory.is_factory(asked):
        loaded = checkpoints.load(asked)
        return Backward(asked, loaded.sha256, _ready(loaded.model, device))
    surrogate, file = factory.named(asked, Path.cwd()), Path(asked.rpartition(":")[0])
    if inspect.isclass(surrogate) or (callable(surrogate) and not _takes(surrogate)):
        surrogate = surrogate()
    if not callable(surrogate):
        raise UserError(f"--backward {asked} is {type(surrogate).__name__}: name a module or a function of images")
    return Backward(asked, sha256_of(file) if file.suffix == ".py" else "", _ready(surrogate, device))


def _ready(surrogate: Any, device: str) -> Any:
    return surrogate.to(device).eval().requires_grad_(False) if isinstance(surrogate, nn.Module) else surrogate


def _takes(surrogate: Any) -> int:
    """How many arguments it must be given."""
    if isinstance(surrogate, nn.Module):
        return 1
    try:
        known = inspect.signature(surrogate).parameters.values()
    except ValueError:  # a function of a library in C
        return 1
    return sum(part.default is part.empty and part.kind in (0, 1) for part in known)


def _of_images(surrogate: Any, model: Classifier, name: str) -> Surrogate:
    count = _takes(surrogate)
    if count > 2:
        raise UserError(f"--backward {name} takes {count} arguments: let it take images, or the model and images")
    taken: Surrogate = partial(surrogate, model) if count == 2 else surrogate
    return taken


def _called(surrogate: Surrogate, images: Tensor, name: str) -> Tensor:
    try:
        with torch.enable_grad():
            result = surrogate(images.clone().requires_grad_(True))
    except Exception as fault:
        raise UserError(f"--backward {name} failed with {type(fault).__name__}: {one_line(fault)}") from fault
    if not isinstance(result, Tensor) or not result.requires_grad:
        raise UserError(f"--backward {name} gives no gradient: make it of differentiable operations")
    return result.detach()


def _tried(form: StoodIn, name: str, images: Tensor) -> StoodIn:
    """A form that keeps the model's values and has a gradient."""
    y = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    with seeded(form, "tried"):
        values = passes.reference_outputs(form, images)
    try:
        with seeded(form, "tried"):
            _, logits, _ = passes.input_gradient(losses.ce, form, images, y)
    except UserError:
        raise
    except Exception as fault:
        what = f"gives no gradient ({type(fault).__name__}: {one_line(fault)})"
        remedy = "write a surrogate (file.py:NAME), or use gradient-free attacks"
        raise UserError(f"--backward {name} {what}: {remedy}") from fault
    spread = (values.amax(1) - values.amin(1)).nan_to_num(0, 0, 0)[:, None]
    if bool(((logits - values).abs() > 1e-4 * spread).any()):
        raise UserError(f"--backward {name} changes the model's values: write a surrogate (file.py:NAME)")
    return form
