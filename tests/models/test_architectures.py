"""Every architecture under every head keeps the contract of `bench.core.types`; the nets are the papers' nets."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from bench.core.registry import architectures
from bench.core.types import UserError
from bench.models.architectures.assembly import assemble
from bench.models.architectures.heads import max_mahalanobis_centers
from bench.models.architectures.resnet import StandardiseImage

SMALL: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "carlini_wagner": ({"widths": (4, 4, 4, 4), "fc": 12, "image": 16}, (1, 16)),
    "small_cnn": ({}, (1, 28)),
    "cnn_a": ({"widths": (4, 8), "fc": 12, "image": 16}, (3, 16)),
    "lenet": ({"widths": (4, 8), "fc": (12,), "image": 12}, (1, 12)),
    "digits_cnn": ({"widths": (4, 8), "fc": (12,)}, (1, 8)),
    "mlp": ({"hidden": (12,), "image": 8}, (1, 8)),
    "resnet18": ({"width": 4}, (3, 16)),
    "preact_resnet18": ({"width": 4}, (3, 16)),
    "madry_resnet": ({"units": 1}, (3, 16)),
    "wide_resnet": ({"depth": 10, "widen": 1}, (3, 16)),
    **{f"vgg{depth}": ({"width": 1 / 16, "in_channels": 1}, (1, 28)) for depth in (11, 13, 16, 19)},
    "er_mnist": ({"widths": (4, 4, 8, 8), "fc": (12,)}, (1, 28)),
    "er_digits": ({"widths": (4, 8), "fc": (12,)}, (1, 8)),
    "er_cifar10": ({"width": 1 / 16, "bn": True}, (3, 32)),
    "er_stl10": ({"widths": (4, 4, 4, 8, 8), "fc": (12,)}, (3, 96)),
    "er_tiny_imagenet": ({"width": 1 / 16, "fc": (12,), "classes": 10}, (3, 64)),
}
# Their classifier is part of the architecture: no head to choose.
OWN_HEAD = {name for name in SMALL if name.startswith("er_")}


def small(name: str, **more: Any) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    args, (channels, side) = SMALL[name]
    return architectures[name](**args | more).eval(), torch.rand(3, channels, side, side)


def parameters(name: str, **args: Any) -> int:
    with torch.device("meta") if name == "wide_resnet" else torch.device("cpu"):
        return sum(weight.numel() for weight in architectures[name](**args).parameters())


def test_every_architecture_is_tested() -> None:
    assert set(architectures) == set(SMALL)


@pytest.mark.parametrize("name", architectures)
@pytest.mark.parametrize("head", ["linear", "centers", "nearest"])
def test_contract(name: str, head: str) -> None:
    if name in OWN_HEAD and head != "linear":
        pytest.skip("its classifier is its own")
    choice = {} if name in OWN_HEAD else {"head": head, "dim": 9 if head != "linear" else None}
    model, x = small(name, classes=7, **choice)
    z = model.features(x)
    logits = model(x)
    assert logits.shape == (3, 7) and z.dim() == 2
    assert torch.equal(logits, model.classify(z))
    assert logits.isfinite().all() and logits.std() > 0
    if head == "linear":
        assert not hasattr(model, "class_centers")
    else:
        assert inspect.ismethod(model.class_centers)
        assert model.class_centers().shape == (7, 9) == (7, z.shape[1])
        assert not any("centers" in weight for weight, _ in model.named_parameters())
    (slope,) = torch.autograd.grad(model(x.requires_grad_()).logsumexp(1).sum(), x)
    assert slope.isfinite().all() and slope.abs().sum() > 0


@pytest.mark.parametrize("name", architectures)
def test_one_image_alone_is_the_same_image_in_a_batch(name: str) -> None:
    model, x = small(name)
    torch.testing.assert_close(model(x[1:2]), model(x)[1:2], rtol=1e-4, atol=1e-5)
    assert model(x[:0]).shape == (0, 10)


@pytest.mark.parametrize(("K", "D"), [(2, 1), (2, 5), (10, 9), (10, 10), (10, 256), (100, 128)])
def test_centers_are_a_regular_simplex(K: int, D: int) -> None:
    centers = max_mahalanobis_centers(K, D, 10.0).double()
    products = centers @ centers.T
    expected = torch.full((K, K), -100 / (K - 1), dtype=torch.float64).fill_diagonal_(100)
    assert centers.shape == (K, D)
    torch.testing.assert_close(products, expected, rtol=0, atol=1e-4)


def test_centers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="dim 9 or more"):
        max_mahalanobis_centers(10, 8)
    with pytest.raises(UserError, match="at least 2 classes"):
        max_mahalanobis_centers(1, 8)


def test_center_heads_are_the_papers() -> None:
    model, x = small("digits_cnn", head="centers", scale=3.0)
    z, centers = model.features(x), model.class_centers()
    assert z.shape == (3, 256) and (z < 0).any()
    torch.testing.assert_close(model(x), z @ centers.T)
    torch.testing.assert_close(centers.norm(dim=1), torch.full((10,), 3.0))
    model, x = small("digits_cnn", head="nearest")
    z = model.features(x)
    torch.testing.assert_close(model(x), -torch.cdist(z, model.class_centers()).square(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("cut", "width"), [("conv", 4), ("fc1", 12), ("fc2", 12), ("penultimate", 12)])
def test_cuts_move_the_features_only(cut: str, width: int) -> None:
    whole, x = small("carlini_wagner")
    model, _ = small("carlini_wagner", cut=cut)
    assert list(model.state_dict()) == list(whole.state_dict())
    assert model.features(x).shape == (3, width)
    torch.testing.assert_close(model.classify(model.features(x)), whole(x))


def test_a_cut_keeps_the_embedding_in_the_classifier() -> None:
    model, x = small("carlini_wagner", cut="conv", dim=5)
    assert model.features(x).shape == (3, 4)
    assert model.classify(model.features(x)).shape == (3, 10)


def test_bad_arguments_name_the_remedy() -> None:
    with pytest.raises(UserError, match="did you mean centers"):
        small("digits_cnn", head="center")
    with pytest.raises(UserError, match="leave out cut"):
        small("carlini_wagner", head="centers", cut="conv")
    with pytest.raises(UserError, match="unknown cut"):
        small("carlini_wagner", cut="block")
    with pytest.raises(UserError, match="6n \\+ 4"):
        architectures["wide_resnet"](depth=11)
    with pytest.raises(UserError, match="too small"):
        architectures["carlini_wagner"](image=8)
    with pytest.raises(UserError, match="positive std"):
        assemble(nn.Flatten(), 4, mean=(0.5,), std=(0.0,))


def test_normalisation_is_a_layer_without_weights() -> None:
    plain, x = small("cnn_a")
    model, _ = small("cnn_a", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    assert list(model.state_dict()) == list(plain.state_dict())
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.2, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(model(x), plain((x - mean) / std))
    assert small("cnn_a", mean=(0.5, 0.4, 0.3))[0](x).shape == (3, 10)


def test_sizes_are_the_published_ones() -> None:
    assert parameters("wide_resnet") == 46_160_474
    assert parameters("resnet18") == 11_173_962
    assert parameters("small_cnn") == 312_202
    assert parameters("madry_resnet") == 464_154
    assert architectures["carlini_wagner"](cut="conv").features(torch.rand(1, 1, 28, 28)).shape == (1, 512)
    cifar = architectures["carlini_wagner"]((64,) * 4, 256, in_channels=3, image=32, cut="conv")
    assert cifar.features(torch.rand(1, 3, 32, 32)).shape == (1, 1600)
    assert sum(isinstance(part, nn.Dropout) for part in cifar.modules()) == 1


def test_zero_head_starts_undecided() -> None:
    model, x = small("small_cnn", zero_head=True)
    assert not model(x).any()


def test_standardisation_has_a_gradient_on_flat_images() -> None:
    x = torch.full((2, 3, 8, 8), 0.5).requires_grad_()
    out = StandardiseImage()(x)
    (slope,) = torch.autograd.grad(out.square().sum() + out[:, 0].sum(), x)
    assert slope.isfinite().all()
    sharp = torch.rand(2, 3, 8, 8)
    out = StandardiseImage()(sharp)
    torch.testing.assert_close(out.flatten(1).std(1, correction=0), torch.ones(2))


def test_wide_madry_resnet_pads_channels() -> None:
    model = architectures["madry_resnet"](widen=2, units=1).eval()
    assert model.features(torch.rand(2, 3, 32, 32)).shape == (2, 128)
    assert model(torch.rand(1, 3, 28, 28)).shape == (1, 10)
