"""ER-Classifier: an embedding of few features, pulled toward a prior by a critic (Li et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.core.fields import bounded
from bench.core.registry import defenses
from bench.core.types import Classifier, ThreatModel, UserError
from bench.ops import losses, passes, rng
from bench.ops.frozen import frozen
from defenses.critic import PRIORS, Critic, draws
from defenses.defense import AdversarialDefense, MakeOptimizer, Trainee


@defenses.register("er")
@dataclass(frozen=True)
class ER(AdversarialDefense):
    """Cross-entropy + weight D(codes, prior), the distance as a critic sees it; weight 0 is E-CLA.

    One batch: (1) with `minmax`, from epoch `delay` on, PGD on the cross-entropy of the model's own prediction gives
    x_adv; (2) the critic descends E T(prior) - E T(codes), then its weights are clipped; (3) encoder and classifier
    descend CE(x), or half CE(x) plus half CE(x_adv); (4) the encoder descends weight E T(codes). Steps (2) and (4) are
    made for x, then for x_adv.

    Every step has gradients of its own, and dropout and batch normalisation train throughout.

    Attributes:
        weight: of the distance to the prior.
        prior: what the codes are pulled toward.
        minmax: whether adversarial images are trained on too.
        delay: the first epoch, from 0, that has them.
        own_labels: attack the model's own predictions instead of the labels.
        critic_rate: the critic's learning rate as a share of the encoder's, which is the recipe's.
        classifier_rate: the classifier's, likewise (0.05 in the public code).
        clip: the bound of the critic's weights.
        width: units in each of the critic's hidden layers.
        depth: the critic's hidden layers.
        reference_quirks: do what the public code does: gradients are cleared once a batch, so that the encoder takes
            the gradient of (3) again at each step of (4) and the critic that of x again for x_adv, and from the second
            epoch on the model is left in evaluation mode.
    """

    weight: float = 5e-4
    prior: str = bounded("gaussian", choices=PRIORS)
    minmax: bool = True
    delay: int = 0
    own_labels: bool = True
    critic_rate: float = bounded(0.5, above=0)
    classifier_rate: float = bounded(0.05, above=0)
    clip: float = bounded(0.01, above=0)
    width: int = bounded(512, low=1, high=1 << 16)
    depth: int = bounded(4, low=1, high=100)
    reference_quirks: bool = False

    needs: ClassVar[tuple[str, ...]] = ("features", "classify", "head")

    def threat(self) -> ThreatModel | None:
        """The ball of the inner attack, if there is one."""
        return super().threat() if self.minmax else None

    def trained_with(self) -> dict[str, dict[str, Any]]:
        """What tables and figures ask of an ER-Classifier."""
        return {"er": {"weight": self.weight, "prior": self.prior, "minmax": self.minmax}}

    def modules(self, model: nn.Module) -> nn.ModuleDict:
        """The critic, if the codes are to match a prior; the same first weights for every seed."""
        if not self.weight:
            return nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.ModuleDict({"critic": Critic(code_width(model), self.width, self.depth)})

    def optimizers(self, model: nn.Module, modules: nn.ModuleDict, make: MakeOptimizer) -> dict[str, Optimizer]:
        """One each for the encoder, the classifier and the critic."""
        head = model.get_submodule("head")
        encoder = make(nn.ModuleList(part for part in model.children() if part is not head))
        rate = encoder.param_groups[0]["initial_lr"]
        both = {"encoder": encoder, "classifier": make(head, lr=self.classifier_rate * rate)}
        return both | {name: make(part, lr=self.critic_rate * rate) for name, part in modules.items()}

    def step(self, trainee: Trainee, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Steps (1) to (4) on one batch; the loss returned is that of (3) plus the weighted T of (4)."""
        if self.reference_quirks and trainee.epoch:
            trainee.model.eval()
            trainee.face.eval()
        model = trainee.face
        inputs = [x]
        if self.minmax and trainee.epoch >= self.delay:
            inputs.append(self._adversarial(model, x, y, keys))
        _clear(trainee.optimizers)
        if self.weight:
            self._train_critic(trainee, inputs, keys)
        total = torch.stack([losses.cross_entropy(model(part), y).mean() for part in inputs]).mean()
        self._descend(trainee, total, "classifier", "encoder")
        value = total.detach()
        for part in inputs if self.weight else ():
            match = self.weight * self._critic(trainee)(model.features(part)).mean()
            self._descend(trainee, match, "encoder")
            value = value + match.detach() / len(inputs)
        return value

    def _critic(self, trainee: Trainee) -> Critic:
        return cast(Critic, trainee.modules["critic"])

    def _adversarial(self, model: Classifier, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        if self.own_labels:
            with frozen(model):
                y = passes.outputs(model, x).argmax(1)
        ball = self.ball(x)
        return self.climb(model, losses.ce, ball, y, ball.sample(keys))

    def _train_critic(self, trainee: Trainee, inputs: list[Tensor], keys: Tensor) -> None:
        critic = self._critic(trainee)
        for place, part in enumerate(inputs):
            with torch.no_grad():
                codes = trainee.face.features(part)
            from_prior = draws(self.prior, rng.fold(keys, place + 1), codes.shape[1])
            self._descend(trainee, critic(from_prior).mean() - critic(codes).mean(), "critic")
            critic.clip(self.clip)

    def _descend(self, trainee: Trainee, loss: Tensor, *names: str) -> None:
        """A step of some optimisers; no other weight keeps a gradient of it."""
        optimizers = trainee.optimizers
        if not self.reference_quirks:
            _clear(optimizers)
        weights = [weight for name in names for group in optimizers[name].param_groups for weight in group["params"]]
        loss.backward(inputs=weights)  # type: ignore[no-untyped-call]
        for name in names:
            optimizers[name].step()


def _clear(optimizers: dict[str, Optimizer]) -> None:
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)


def code_width(model: nn.Module) -> int:
    """n_z: what the classifier's first layer takes.

    Raises:
        UserError: the head has no linear layer.
    """
    first = next((part for part in model.get_submodule("head").modules() if isinstance(part, nn.Linear)), None)
    if first is None:
        raise UserError("er needs a head that starts with a linear layer: choose an er_* architecture")
    return first.in_features
