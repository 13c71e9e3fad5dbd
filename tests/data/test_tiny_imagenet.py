"""Data of the ER-Classifier in the official formats."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core import files, registry
from bench.core.registry import datasets
from bench.core.types import UserError
from bench.data import tiny_imagenet
from bench.data.official import OfficialFile


class TestData:
    """STL-10 and Tiny ImageNet on generated files in the official formats: the real ones are not at hand."""

    def test_stl10_is_stored_by_columns_with_labels_from_1(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96), np.uint8)
        labels = np.array([1, 10, 3], np.uint8)
        contents = {"test_X.bin": pixels.transpose(0, 1, 3, 2).tobytes(), "test_y.bin": labels.tobytes()}
        home = tmp_path / "stl10_binary"
        home.mkdir()
        for name, content in contents.items():
            (home / name).write_bytes(content)
        part = tuple(OfficialFile(name, files.md5_of(home / name)) for name in contents)
        data = replace(datasets["stl10"], parts={"test": part}).load("test", [tmp_path])
        assert data.labels.tolist() == [0, 9, 2] and data.classes[9] == "truck"
        assert np.array_equal((data.images * 255).round().numpy().astype(np.uint8), pixels)
        with pytest.raises(UserError, match="is not the official file"):
            datasets["stl10"].load("test", [tmp_path])
        (home / "test_X.bin").write_bytes(b"short")
        part = (OfficialFile("test_X.bin", files.md5_of(home / "test_X.bin")), part[1])
        with pytest.raises(UserError, match="not a number of 96x96 colour images"):
            replace(datasets["stl10"], parts={"test": part}).load("test", [tmp_path])

    def test_tiny_imagenet_is_read_from_its_zip(self, tmp_path: Path) -> None:
        path, data = tmp_path / "tiny-imagenet-200.zip", datasets["tiny_imagenet"]
        shades = self._zip(path)
        official = (OfficialFile(path.name, files.md5_of(path)),)
        data = replace(data, parts={"train": official, "test": official})
        train, test = (data.load(split, [tmp_path]) for split in ("train", "test"))
        assert train.classes == test.classes == ("n01", "n02")
        assert train.labels.tolist() == [0] * 11 + [1] * 2 and test.labels.tolist() == [1, 0]
        assert train.images.shape == (13, 3, 64, 64)
        # JPEG keeps a flat image but for rounding; image 10 comes after image 9, and grey has three equal channels.
        assert train.images[:, 0, 0, 0].tolist() == pytest.approx([shade / 255 for shade in shades], abs=0.02)
        assert torch.equal(train.images[0, 0], train.images[0, 2])
        with pytest.raises(UserError, match="not found"):
            registry.datasets["tiny_imagenet"].load("test", [tmp_path / "nowhere"])
        assert registry.datasets["tiny_imagenet"].files == (tiny_imagenet._ZIP,)

    def _zip(self, path: Path) -> list[int]:
        shades = [20 * place for place in range(13)]

        def jpeg(shade: int) -> bytes:
            content = io.BytesIO()
            Image.new("L" if shade == 0 else "RGB", (64, 64), shade if shade == 0 else (shade,) * 3).save(
                content, "JPEG", quality=95
            )
            return content.getvalue()

        with zipfile.ZipFile(path, "w") as archive:
            root = "tiny-imagenet-200/"
            archive.writestr(f"{root}wnids.txt", "n02\nn01\n")
            for place, shade in enumerate(shades):
                name, number = ("n01", place) if place < 11 else ("n02", place - 11)
                archive.writestr(f"{root}train/{name}/images/{name}_{number}.JPEG", jpeg(shade))
            archive.writestr(
                f"{root}val/val_annotations.txt", "val_1.JPEG\tn01\t0\t0\t9\t9\nval_0.JPEG\tn02\t0\t0\t9\t9\n"
            )
            for number in range(2):
                archive.writestr(f"{root}val/images/val_{number}.JPEG", jpeg(100))
        return shades

    def test_a_zip_of_something_else_is_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "tiny-imagenet-200.zip"
        path.write_bytes(b"no zip")
        official = (OfficialFile(path.name, files.md5_of(path)),)
        with pytest.raises(UserError, match="is not laid out as the official file"):
            replace(datasets["tiny_imagenet"], parts={"test": official}).load("test", [tmp_path])
