"""What a defense is: the contract between one module of this package and the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.core.eps import parse_eps, threat_model
from bench.core.types import Budget, Norm, Objective, ThreatModel
from bench.ops.ascent import Schedule, ascend
from bench.ops.frozen import frozen
from bench.ops.norms import Ball

MakeOptimizer = Callable[..., Optimizer]
"""(module, lr=None) -> the recipe's optimiser over the weights of a module; an lr replaces the recipe's."""


@dataclass
class Trainee:
    """What a defense trains: the model, the modules and optimisers of its own, and where training stands.

    All of it is saved at each epoch, so that a resumed run goes on bit for bit. `face` is what losses call: the model,
    or the same weights computing in bfloat16 (outputs, and so every loss, stay float32).
    """

    model: nn.Module
    modules: nn.ModuleDict
    optimizers: dict[str, Optimizer]
    epoch: int = 0
    face: Any = None

    def __post_init__(self) -> None:
        self.face = self.model if self.face is None else self.face

    def descend(self, loss: Tensor) -> None:
        """One step of every optimiser on the gradient of a scalar loss."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers.values():
            optimizer.step()


@dataclass(frozen=True)
class Defense:
    """A way to train. A subclass is a frozen dataclass whose fields are its parameters; most define only `loss`.

    One with a schedule of updates of its own (a discriminator, several optimisers) gives `modules` and `optimizers` and
    overrides `step`. `needs` names the methods that the model must have.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def loss(self, model: Any, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """The loss, averaged over the batch.

        Args:
            model: the classifier, in training mode.
            x: images (N, C, H, W) in [0, 1], augmented.
            y: labels (N,).
            keys: keys (N,) for `bench.ops.rng`, new for each image and epoch.
        """
        raise NotImplementedError

    def threat(self) -> ThreatModel | None:
        """The threat model that it trains against, or None."""
        return None

    def trained_with(self) -> Mapping[str, Mapping[str, Any]]:
        """What adaptive attacks should know of a model trained so: their fields, by their names."""
        return {}

    def modules(self, model: nn.Module) -> nn.ModuleDict:
        """Further modules that are trained beside the model and thrown away after."""
        return nn.ModuleDict()

    def optimizers(self, model: nn.Module, modules: nn.ModuleDict, make: MakeOptimizer) -> dict[str, Optimizer]:
        """The optimisers by name; the recipe's schedule scales the learning rate of each."""
        return {"model": make(model)}

    def step(self, trainee: Trainee, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Update on one batch and return its loss, detached."""
        loss = self.loss(trainee.face, x, y, keys)
        trainee.descend(loss)
        return loss.detach()


@dataclass(frozen=True)
class AdversarialDefense(Defense):
    """A defense with an inner maximisation by projected ascent; `eps` and `step_size` are kept as written ("8/255")."""

    norm: Norm = "linf"
    eps: str = "8/255"
    steps: int = 10
    step_size: str = "2/255"

    def __post_init__(self) -> None:
        threat_model(self.norm, parse_eps(self.eps), self.eps)
        parse_eps(self.step_size)

    def threat(self) -> ThreatModel | None:
        """The ball of the inner attack."""
        return threat_model(self.norm, parse_eps(self.eps), self.eps)

    def ball(self, x: Tensor) -> Ball:
        """Where the inner attack may go around images x (N, C, H, W)."""
        eps = torch.full((len(x),), parse_eps(self.eps), dtype=torch.float64, device=x.device)
        return Ball.around(x, Budget(self.norm, eps))

    def climb(
        self,
        model: Any,
        objective: Objective,
        ball: Ball,
        y: Tensor,
        start: Tensor,
        references: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """The last iterate (N, C, H, W) of an ascent on `objective` from `start`, in evaluation mode."""
        size = torch.full((len(y),), parse_eps(self.step_size), device=start.device)
        schedule = Schedule(self.steps, size, stop=False)
        with frozen(model):
            return ascend(model, objective, ball, y, ball.project(start), schedule, references).x_adv
