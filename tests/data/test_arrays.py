"""Arrays of images, CIFAR-10-C and data sets of the datasets library: the right images and labels, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core.types import ImageSet, UserError
from bench.data import arrays, loading
from tests.support.libraries import library

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (12, 8, 8, 3), np.uint8)
Y = np.arange(12) % 4
SCALED = torch.from_numpy(np.divide(X.transpose(0, 3, 1, 2), np.float32(255)))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def check(data: ImageSet) -> None:
    assert torch.equal(data.images[:], SCALED) and torch.equal(data.labels, torch.from_numpy(Y))


def refused(name: str, split: str = "test") -> str:
    with pytest.raises(UserError) as caught:
        loading.load(name, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestNpz:
    @pytest.mark.parametrize("names", [("images", "labels"), ("x_test", "y_test"), ("test_images", "test_labels")])
    def test_usual_names(self, names: tuple[str, str]) -> None:
        np.savez("set.npz", **{names[0]: X, names[1]: Y[:, None] if names[0] == "x_test" else Y})
        check(loading.load("npz:set.npz"))

    def test_names_that_are_given_and_splits(self) -> None:
        np.savez("set.npz", pixels=X.transpose(0, 3, 1, 2), classes=Y, train_images=X[:5], train_labels=Y[:5])
        check(loading.load("npz:set.npz(images='pixels',labels='classes')"))
        assert len(loading.load("npz:set.npz", "train")) == 5
        assert "has no split 'test'" in refused("npz:set.npz")

    def test_numbers_in_0_to_1_and_grey_images(self) -> None:
        np.savez("set.npz", images=(X[..., 0] / 255), labels=Y)
        data = loading.load("npz:set.npz")
        assert data.images.shape == (12, 1, 8, 8) and torch.allclose(data.images[:], SCALED[:, :1])

    def test_what_is_no_set_is_one_line(self) -> None:
        np.savez("none.npz", a=X, b=Y)
        assert "holds 'a', 'b'" in refused("npz:none.npz")
        np.savez("short.npz", images=X, labels=Y[:3])
        assert "labels (3,) for 12 images" in refused("npz:short.npz")
        np.savez("odd.npz", images=X[..., :3, :2], labels=Y)
        assert "give layout=" in refused("npz:odd.npz")
        np.savez("code.npz", images=np.array([{}] * 12, object), labels=Y)
        assert "cannot be read as arrays" in refused("npz:code.npz")
        Path("text.npz").write_text("no archive")
        assert "cannot be read" in refused("npz:text.npz")
        assert "there is no file" in refused("npz:nothing.npz")


class TestNpy:
    def test_a_pair_of_files(self) -> None:
        np.save("x.npy", X)
        np.save("labels.npy", Y)
        check(loading.load("npy:x.npy"))
        np.save("y.npy", Y[:, None])
        check(loading.load("npy:x.npy(labels='y.npy')"))

    def test_large_ones_are_read_later_and_have_the_same_hash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        np.save("x.npy", X)
        np.save("labels.npy", Y)
        held = loading.load("npy:x.npy")
        monkeypatch.setattr(arrays, "HELD", 0)
        later = loading.load("npy:x.npy")
        assert later.is_read_later and later.sha256 == held.sha256
        check(later)
        assert torch.equal(later.select(slice(3, 5)).images[:], SCALED[3:5])


def test_cifar10c_in_its_official_form() -> None:
    home = Path("data/CIFAR-10-C")
    home.mkdir(parents=True)
    x = np.lib.format.open_memmap(home / "fog.npy", "w+", np.uint8, (50_000, 32, 32, 3))
    x[20_000:20_012, :8, :8] = X
    x.flush()
    np.save(home / "labels.npy", np.tile(np.arange(10_000) % 10, 5).astype(np.uint8))
    data = loading.load("cifar10c:fog(severity=3)", data_dir="data")
    assert data.images.shape == (10_000, 3, 32, 32) and data.classes[1] == "automobile"
    assert torch.equal(data.images[:12][..., :8, :8], SCALED) and data.labels[:11].tolist() == [*range(10), 0]
    assert "CIFAR-10-C/frost.npy not found" in refused("cifar10c:frost")
    assert "severity cannot be 6" in refused("cifar10c:fog(severity=6)")


class TestHub:
    def saved(self, folder: str = "set") -> Any:
        datasets = library("datasets")
        names = datasets.ClassLabel(names=["a", "b", "c", "d"])
        features = datasets.Features({"img": datasets.Image(), "fine": names, "other": datasets.Value("int64")})
        rows = {"img": [Image.fromarray(image) for image in X], "fine": Y.tolist(), "other": [0] * 12}
        table = datasets.Dataset.from_dict(rows, features=features)
        datasets.DatasetDict({"test": table, "validation": table.select(range(4))}).save_to_disk(folder)
        return table

    def test_columns_are_found_by_their_kind(self) -> None:
        self.saved()
        data = loading.load("hf:set")
        check(data)
        assert data.classes == ("a", "b", "c", "d")
        assert len(loading.load("hf:set(test='validation')")) == 4
        assert loading.load("hf:set(resize=6,crop=4)").images.shape == (12, 3, 4, 4)

    def test_what_is_not_there_is_one_line(self) -> None:
        self.saved()
        assert "has no split 'train'" in refused("hf:set", "train")
        assert "has the columns img, fine, other" in refused("hf:set(image='picture')")
