"""Which model made a run: its answers are compared with a tolerance, its files by hash."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.core.files import sha256_of
from bench.core.types import Checkpoint
from bench.core.user_code import sources_of
from bench.evaluation import identity
from bench.store.behaviour import difference
from bench.store.record import Behaviour
from tests.support.subjects import Centred, frozen, linear

SHAPE = (1, 6, 6)


def images(count: int = 20) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def seen(model: nn.Module, batch: int = 16) -> Behaviour:
    return identity.behaviour(model, images(), "cpu", batch)


class Changed(nn.Module):
    """A model whose logits are changed by a function."""

    def __init__(self, model: nn.Module, change) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.model(x))


@pytest.mark.parametrize("classes", [2, 5, 10, 37])
def test_the_same_model_is_the_same_in_any_batch_and_on_any_number_of_threads(classes: int) -> None:
    model = linear(SHAPE, classes)
    first = seen(model)
    assert not first.random and len(first.values) == 32 == len(first.scales) and first.noise == 16
    assert {len(row) for row in first.values} == {min(classes, 10)}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert difference(first, seen(model, batch=5)) is None
    finally:
        torch.set_num_threads(threads)
    assert difference(first, seen(model.double().float())) is None
    assert Behaviour.from_dict(first.to_dict()) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z + 0.01 * z.roll(1, 1),
        lambda z: 1.01 * z,
        lambda z: z.softmax(1),
        lambda z: torch.where(z > z.amax(1, keepdim=True) - 1e-3, -z, z),
        lambda z: torch.where(torch.arange(len(z)).reshape(-1, 1) == 3, -z, z),
    ],
    ids=["mixed", "scaled", "softmax", "top", "one image"],
)
@pytest.mark.parametrize("classes", [5, 37])
def test_an_edited_forward_is_another_model(change, classes: int) -> None:
    model = linear(SHAPE, classes)
    said = difference(seen(model), seen(Changed(model, change)))
    assert said is not None and "others on" in said


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e15])
def test_answers_are_compared_at_their_own_scale(scale: float) -> None:
    model = Changed(linear(SHAPE, 5), lambda z: z * scale)
    near = Changed(model, lambda z: z * (1 + 1e-6))
    far = Changed(model, lambda z: z * 1.01)
    assert difference(seen(model), seen(near)) is None
    assert difference(seen(model), seen(far)) is not None


def test_classes_that_are_masked_hide_no_others() -> None:
    def masked(z: Tensor) -> Tensor:
        return torch.cat([z, z.new_full((len(z), 2), torch.finfo(z.dtype).min)], 1)

    model = linear(SHAPE, 5)
    sound, other = (Changed(Changed(model, lambda z, k=k: z * k), masked) for k in (1.0, 1.01))
    assert difference(seen(sound), seen(sound)) is None and difference(seen(sound), seen(other)) is not None


def test_answers_that_are_not_finite_are_null_and_compared() -> None:
    model = linear(SHAPE, 5)
    bad = Changed(model, lambda z: torch.where(torch.arange(5) == 2, torch.nan, z))
    assert all(row[2] is None and row[1] is not None for row in seen(bad).values)
    assert difference(seen(bad), seen(bad)) is None and difference(seen(bad), seen(model)) is not None


def test_a_random_model_is_known_as_one_and_draws_what_it_would_have_drawn() -> None:
    random = Changed(linear(SHAPE, 5), lambda z: z + torch.rand_like(z))
    torch.manual_seed(3)
    first = seen(random)
    after = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(4))
    assert first.random and difference(first, seen(random)) is None
    assert (
        difference(first, seen(linear(SHAPE, 5)))
        == "a model that answers otherwise at each call, not the same at each call"
    )


def test_noise_alone_is_compared_where_the_images_are_others() -> None:
    model = frozen(Centred())
    mine = identity.behaviour(model, images(), "cpu", 16)
    other = identity.behaviour(model, images().flip(3), "cpu", 16)
    assert difference(mine, other) is not None and difference(mine, other, same_images=False) is None
    few = identity.behaviour(model, images(3), "cpu", 16)
    assert len(few.values) == 19 and difference(mine, few, same_images=False) is None


def test_sources_are_a_file_and_what_it_imports_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    texts = {
        "model.py": "import torch, parts\nfrom pack import layers\nfrom pack.deep.more import *\n",
        "parts.py": "def f():\n    import lazy\n",
        "lazy.py": "import model\n",
        "unused.py": "",
        "pack/__init__.py": "",
        "pack/layers.py": "from . import norms\nfrom .deep import more\n",
        "pack/norms.py": "this is no Python (",
        "pack/other.py": "",
        "pack/deep/__init__.py": "",
        "pack/deep/more.py": "from ..outer import x\n",
        "pack/outer.py": "x = 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    known = sources_of(tmp_path / "model.py")
    assert set(known) == set(texts) - {"unused.py", "pack/other.py"}
    assert known["lazy.py"] == sha256_of(tmp_path / "lazy.py")
    assert identity.sources(Checkpoint("m", f"{tmp_path}/model.py:make")) == {
        str(tmp_path / name): digest for name, digest in known.items()
    }
    assert identity.sources(Checkpoint("m", "mlp")) == {}
    assert set(identity.sources(Checkpoint("m", "torch.nn:Linear"))) == {"torch.nn"}
