"""Cheaper copies of a model to search on."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.attacks.budgeted.pgd import PGD
from bench.core.registry import architectures
from bench.core.types import UserError
from bench.models import precision, search_copy
from bench.ops import losses, passes, rng
from tests.support import subjects

SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 4},
    "preact_resnet18": {"width": 4, "head": "centers", "dim": 12},
    "wide_resnet": {"depth": 10, "widen": 1},
    "madry_resnet": {"units": 1},
    "vgg11": {"width": 0.05, "mean": [0.5] * 3, "std": [0.2] * 3},
}


FOLDED = {"resnet18": 20, "preact_resnet18": 8, "wide_resnet": 3, "madry_resnet": 4, "vgg11": 8}


def settled(model: nn.Module) -> nn.Module:
    """In eval mode, with statistics and weights of normalisation that are not those of a new layer."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for value, low, high in (
                (part.running_mean, -0.5, 0.5),
                (part.running_var, 0.3, 2.0),
                (part.weight, -1.5, 1.5),
                (part.bias, -0.5, 0.5),
            ):
                value.data.uniform_(low, high)
    return subjects.frozen(model)


def drawn(*shape: int) -> Tensor:
    return rng.uniform(rng.keys(0, torch.arange(shape[0]), "images"), shape[1:])


def normalisations(model: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in model.modules())


def small(arch: str) -> nn.Module:
    return settled(architectures[arch](**SMALL[arch]))


class Net(nn.Module):
    """A convolution, a normalisation and a linear layer, wired by a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).flatten(1))

    def body(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


class Shortcut(Net):
    def body(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        return self.bn(z) + z


class NormalisedTwice(Net):
    def body(self, x: Tensor) -> Tensor:
        return self.bn(self.bn(self.conv(x)).relu())


class Branching(Net):
    def body(self, x: Tensor) -> Tensor:
        return super().body(x) if x.sum() > 0 else self.conv(x)


class ReadsWeights(Net):
    def body(self, x: Tensor) -> Tensor:
        return super().body(x) * self.bn.weight.mean()


class FeaturesBetween(Net):
    """Folding would leave the logits alone, and change what `features` gives."""

    def features(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)

    def classify(self, z: Tensor) -> Tensor:
        return self.fc(self.bn(z.view(-1, 4, 6, 6)).relu().flatten(1))


class Shared(Net):
    """Two convolutions with one weight, of which one is normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(1, 4, 3, padding=1)
        self.other.weight = self.conv.weight

    def body(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu() + self.other(x)


class TestFolding:
    @pytest.mark.parametrize("arch", SMALL)
    def test_takes_every_normalisation_that_follows_a_layer(self, arch):
        model, x = small(arch), drawn(5, 3, 32, 32)
        before = copy.deepcopy(model.state_dict())
        folded = search_copy.folded(model, x)
        assert normalisations(model) - normalisations(folded) == FOLDED[arch]
        assert type(folded) is type(model)
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(folded.features(x), model.features(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(folded.classify(folded.features(x)), folded(x))
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        owned = {value.data_ptr() for value in model.state_dict().values()}
        assert owned.isdisjoint(value.data_ptr() for value in folded.state_dict().values() if value.numel())

    def test_folds_into_linear_layers_without_affine_terms_too(self):
        layers = nn.Flatten(), nn.Linear(36, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3)
        model, x = nn.Sequential(*layers), drawn(4, 1, 6, 6)
        model[2].running_var.uniform_(0.3, 2)
        folded = search_copy.folded(subjects.frozen(model), x)
        assert normalisations(folded) == 0
        torch.testing.assert_close(folded(x), model(x))

    @pytest.mark.parametrize("kind", [Shortcut, NormalisedTwice, Branching, ReadsWeights, FeaturesBetween])
    def test_leaves_alone_what_it_cannot_prove(self, kind):
        model, x = settled(kind()), drawn(4, 1, 6, 6)
        folded = search_copy.folded(model, x)
        assert normalisations(folded) == 1 and folded is not model
        assert torch.equal(folded(x), model(x))

    def test_leaves_alone_batch_statistics_hooks_and_subclasses(self):
        x = drawn(4, 1, 6, 6)
        hooked, training = settled(Net()), settled(Net())
        hooked.conv.register_forward_hook(lambda *parts: parts[2] * 2)
        training.bn.train()
        weighted = settled(Net())
        weighted.conv = nn.utils.parametrizations.weight_norm(weighted.conv)
        for model in (hooked, training, weighted):
            assert normalisations(search_copy.folded(model, x)) == 1

    def test_a_shared_weight_stays_as_it_is_in_the_other_layer(self):
        model, x = settled(Shared()), drawn(4, 1, 6, 6)
        folded = search_copy.folded(model, x)
        assert normalisations(folded) == 0
        torch.testing.assert_close(folded(x), model(x))


class TestSearchModel:
    def test_float32_is_the_model_itself(self):
        model = small("resnet18")
        assert search_copy.search_model(model, "float32", drawn(2, 3, 32, 32)) is model

    @pytest.mark.parametrize("arch", ["resnet18", "preact_resnet18"])
    def test_bf16_keeps_methods_types_and_modules(self, arch):
        model, x = small(arch), drawn(5, 3, 32, 32)
        stand_in = search_copy.search_model(model, "bf16", x)
        assert isinstance(stand_in, type(model)) and stand_in is not model
        names = {name for name, _ in model.named_modules()}
        assert names == {name for name, _ in stand_in.named_modules()}
        for call in ("__call__", "features"):
            ours, theirs = getattr(model, call)(x), getattr(stand_in, call)(x)
            assert theirs.dtype == torch.float32 and 0 < (ours - theirs).abs().max() < 0.1 * (ours.max() - ours.min())
        assert stand_in.classify(model.features(x)).dtype == torch.float32
        assert torch.equal(copy.deepcopy(stand_in)(x), stand_in(x))
        if arch == "preact_resnet18":
            assert torch.equal(stand_in.class_centers(), model.class_centers())

    def test_gradients_are_float32_and_point_the_same_way(self):
        model, x = small("resnet18"), drawn(8, 3, 32, 32)
        y = model(x).argmax(1)
        ours, theirs = (
            passes.input_gradient(losses.ce, kind, x, y)[2].flatten(1)
            for kind in (model, search_copy.search_model(model, "bf16", x))
        )
        assert theirs.dtype == torch.float32
        assert (torch.cosine_similarity(ours, theirs) > 0.9).all()

    def test_an_attack_runs_on_it(self):
        model, x = small("resnet18"), drawn(4, 3, 32, 32)
        y = model(x).argmax(1)
        with search_copy.searching(model, "bf16", x) as stand_in:
            x_adv = PGD(steps=3)(stand_in, x, y, subjects.budget("linf", 0.1, 4), subjects.keys(4))
        assert x_adv.dtype == torch.float32 and x_adv.isfinite().all()

    def test_says_what_is_wrong(self):
        model, x = small("resnet18"), drawn(2, 3, 32, 32)
        with pytest.raises(UserError, match="unknown search dtype 'fp8'"):
            search_copy.search_model(model, "fp8", x)
        with pytest.raises(UserError, match="CUDA"):
            search_copy.search_model(model, "tf32", x)
        with pytest.raises(UserError, match="needs an nn"):
            search_copy.search_model(lambda x: x.flatten(1), "bf16", x)
        model.locked = (value for value in ())
        with pytest.raises(UserError, match="cannot be copied"):
            search_copy.search_model(model, "bf16", x)

    def test_precision_comes_back_after_an_error(self):
        def flags() -> tuple[bool, bool]:
            return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

        before = flags()
        with pytest.raises(ZeroDivisionError), precision.precision(tf32=True):
            assert flags() == (True, True)
            with precision.precision(tf32=False):
                assert flags() == (False, False)
            assert flags() == (True, True)
            raise ZeroDivisionError
        assert flags() == before
