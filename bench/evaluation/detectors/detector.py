"""What a detector is, and the logistic regression that makes its measurements one score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.core.types import Classifier, UserError
from bench.ops import passes

FEWEST = 10
"""How many adversarial examples a detector is fitted on at least: five folds of two."""
_FOLDS = 5

Scaling = Literal["standard", "range"]


@dataclass(frozen=True)
class TrainingImages:
    """What a detector may look at before it is fitted: training images (R, C, H, W) and their labels (R,).

    No image that it is fitted, calibrated or tested on is among them. `encoder` loads another model of the registry.
    """

    images: Tensor
    labels: Tensor
    classes: int
    seed: int
    batch_size: int
    device: str
    encoder: Callable[[str], Classifier]

    def batched(self, call: Classifier, images: Tensor) -> Tensor:
        """`call` of images, a batch at a time on the device, without a gradient."""
        parts = torch.split(images, self.batch_size)
        return torch.cat([passes.reference_outputs(call, part.to(self.device)) for part in parts])


@dataclass(frozen=True)
class Measure:
    """What a detector looks at: images (N, C, H, W) to (N, F), and the classifier's logits (N, K); differentiable.

    `facts` are settings that were chosen from the training images, such as a bandwidth, for the record.
    """

    call: Callable[[Tensor], tuple[Tensor, Tensor]]
    scaling: Scaling
    facts: dict[str, Any] = field(default_factory=dict)


class Detector(Protocol):
    """A frozen dataclass whose fields are its parameters; `needs` names the methods that the classifier must have."""

    needs: ClassVar[tuple[str, ...]]

    def measure(self, model: Classifier, training: TrainingImages) -> Measure:
        """Look at the training images once, and say what will be measured of others."""
        ...


@dataclass(frozen=True)
class Fitted:
    """A fitted detector: score = weights . (measured - shift) / scale + bias, the logit of "adversarial"."""

    measure: Measure
    shift: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor

    def answers(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits and score (N, K + 1), the score last; differentiable."""
        measured, logits = self.measure.call(x)
        score = ((measured - self.shift) / self.scale) @ self.weights + self.bias
        return torch.cat([logits, score[:, None].to(logits)], dim=1)

    def score(self, x: Tensor) -> Tensor:
        """Suspicion (N,) of images: above 0, more likely adversarial than not."""
        return self.answers(x)[:, -1]


def fit(measure: Measure, training: TrainingImages, negatives: Tensor, positives: Tensor) -> Fitted:
    """Tell clean and noisy images (negatives) from adversarial examples by logistic regression, C cross-validated.

    Measurements are brought to mean 0 and deviation 1 or to the range 0 to 1 by those of the images fitted on; one
    that never changes stays 0 and says nothing.

    Raises:
        UserError: too few adversarial examples, or measurements that are not finite.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    if len(positives) < FEWEST:
        fault = f"the attack broke {len(positives)} images and a detector is fitted on {FEWEST} or more"
        raise UserError(f"{fault}: give a larger -n or --eps, or another --fit-attack")
    groups = [
        training.batched(lambda x: measure.call(x)[0], images).double().cpu() for images in (negatives, positives)
    ]
    measured = torch.cat(groups)
    if not bool(measured.isfinite().all()):
        raise UserError("the detector measures NaN or infinity on images to fit on: choose another bandwidth or model")
    low, high = measured.amin(0), measured.amax(0)
    standard = measure.scaling == "standard"
    shift, scale = (measured.mean(0), measured.std(0, correction=0)) if standard else (low, high - low)
    scale = torch.where(high > low, scale, torch.ones_like(scale))
    y = np.repeat([0, 1], [len(group) for group in groups])
    grid = {"C": np.logspace(-4, 4, 10)}
    search = GridSearchCV(LogisticRegression(max_iter=2000), grid, scoring="neg_log_loss", cv=_FOLDS)
    model = search.fit(((measured - shift) / scale).numpy(), y).best_estimator_
    weights, bias = (torch.from_numpy(np.asarray(part, np.float64)) for part in (model.coef_[0], model.intercept_[0]))
    return Fitted(measure, *(part.to(training.device) for part in (shift, scale, weights, bias)))
