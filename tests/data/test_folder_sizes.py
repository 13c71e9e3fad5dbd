"""Folders of pictures of any size: resized and cropped as other libraries do it, and read as they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core.images import Expected
from bench.core.types import UserError
from bench.data import encoded, loading
from bench.data.naming import labels_of_names
from bench.data.transform import transform_of

DRAW = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def picture(path: str, height: int = 30, width: int = 40, mode: str = "RGB") -> Image.Image:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(DRAW.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)
    image.save(path)
    return image


def set_of(name: str, count: int = 3) -> list[Image.Image]:
    return [picture(f"set/{label}/{place}.png", 30 + place, 40 - place) for label in "ab" for place in range(count)]


class TestTransform:
    @pytest.mark.parametrize(
        ("size", "resize", "result"),
        [((30, 40), 20, (20, 26)), ((41, 30), 20, (27, 20)), ((30, 40), (8, 9), (8, 9)), ((375, 500), 256, (256, 341))],
    )
    def test_the_shorter_side_and_the_longer_one_in_proportion(
        self, size: tuple[int, int], resize: object, result: tuple[int, int]
    ) -> None:
        assert transform_of({"resize": resize}, "it").shape(*size) == result

    def test_a_crop_starts_where_torchvision_or_transformers_starts_it(self) -> None:
        pixels = np.arange(7 * 7, dtype=np.uint8).reshape(7, 7)
        image = Image.fromarray(pixels)
        for middle, start in (("nearest", 2), ("down", 1)):  # half of 3 pixels are left on each side
            cut = np.asarray(transform_of({"crop": 4, "middle": middle}, "it")(image))[..., 0]
            assert np.array_equal(cut, pixels[start : start + 4, start : start + 4])

    def test_pillow_resizes_the_whole_and_the_middle_is_cut(self) -> None:
        image = picture("one.png", 50, 70)
        made = transform_of({"resize": 20, "crop": (16, 18), "interpolation": "bicubic"}, "it")(image)
        whole = image.resize((28, 20), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(made), np.asarray(whole)[2:18, 5:23])

    @pytest.mark.parametrize("wrong", [{"resize": -1}, {"crop": (1, 2, 3)}, {"resize": "a"}, {"interpolation": "best"}])
    def test_what_is_no_size_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UserError, match="cannot be"):
            transform_of({"resize": 8, **wrong}, "it")


class TestFolder:
    def test_pictures_of_many_sizes_become_images_of_one(self) -> None:
        pictures = set_of("set")
        data = loading.load("folder:set(resize=20,crop=16)")
        transform = transform_of({"resize": 20, "crop": 16}, "it")
        wanted = np.stack([np.asarray(transform(image)).transpose(2, 0, 1) for image in pictures])
        assert data.images.shape == (6, 3, 16, 16) and data.is_read_later
        assert torch.equal(data.images[:], torch.from_numpy(np.divide(wanted, np.float32(255))))
        assert data.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.classes == ("a", "b")

    def test_parts_read_their_own_images_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_of("set")
        data = loading.load("folder:set(resize=20,crop=16)")
        seen = list[int]()
        read = encoded.Encoded.pixels
        monkeypatch.setattr(encoded.Encoded, "pixels", lambda self, place: seen.append(place) or read(self, place))
        part = loading.load("folder:set(resize=20,crop=16)").select(torch.tensor([4, 1, 3])).select(slice(1, 3))
        assert seen == [] and part.indices.tolist() == [1, 3]
        assert torch.equal(part.images[:], data.images[torch.tensor([1, 3])])
        assert seen == [1, 3]  # those of `data` were bound before
        assert not part.loaded().is_read_later

    def test_grey_and_other_pictures_become_rgb(self) -> None:
        for place, mode in enumerate(("RGB", "L", "CMYK")):
            picture(f"set/a/{place}.{'jpg' if mode == 'CMYK' else 'png'}", mode=mode)
        assert loading.load("folder:set(crop=16)").images.shape == (3, 3, 16, 16)
        with pytest.raises(UserError, match="make all images the same size and colour, or give resize= and crop="):
            loading.load("folder:set")

    def test_a_picture_that_is_too_small_for_the_crop_is_named(self) -> None:
        set_of("set")
        with pytest.raises(UserError, match=r"set/a/1.png is 31x39 before the crop to 31x40"):
            loading.load("folder:set(crop=(31,40))") if picture("set/a/0.png", 31, 40) else None

    def test_the_hash_is_of_bytes_names_and_transform(self) -> None:
        set_of("set")
        first = loading.load("folder:set(resize=20,crop=16)").sha256
        assert first == loading.load("folder:set(crop=16,resize=20)").sha256
        assert first != loading.load("folder:set(resize=21,crop=16)").sha256
        picture("set/a/0.png")
        assert first != loading.load("folder:set(resize=20,crop=16)").sha256

    def test_large_plain_sets_are_read_later_and_have_the_same_hash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for label in "ab":
            picture(f"set/{label}/0.png", 8, 8)
        held = loading.load("folder:set")
        monkeypatch.setattr(encoded, "HELD", 0)
        later = loading.load("folder:set")
        assert later.is_read_later and not held.is_read_later and later.sha256 == held.sha256
        assert torch.equal(later.images[:], held.images[:])

    def test_a_picture_that_changes_meanwhile_is_refused(self) -> None:
        set_of("set")
        data = loading.load("folder:set(resize=20,crop=16)")
        picture("set/b/0.png")
        with pytest.raises(UserError, match=r"set/b/0.png has changed since the run began"):
            data.images[3:4]


class TestClasses:
    def test_a_file_numbers_the_directories(self) -> None:
        for label in ("cat", "dog"):
            picture(f"set/{label}/0.png", 8, 8)
        Path("set/classes.txt").write_text("bee\ndog\ncat\n")
        data = loading.load("folder:set")
        assert data.labels.tolist() == [2, 1] and data.classes == ("bee", "dog", "cat")
        Path("set/classes.txt").write_text("bee\ndog\n")
        with pytest.raises(UserError, match=r"classes.txt does not name the directory 'cat'"):
            loading.load("folder:set")

    def test_names_of_a_model_are_whole_or_their_first_part(self) -> None:
        names = ("tench, Tinca tinca", "great white shark, white shark", "n01440764 goldfish")
        assert labels_of_names(["Great_white_shark", "tench"], names) == (1, 0)
        assert labels_of_names(["n01440764"], names) == (2,)
        assert labels_of_names(["tench", "something"], names) == labels_of_names(["tench", "Tench"], names) == ()

    def test_a_model_fits_a_folder_and_the_record_reads_it_again(self) -> None:
        set_of("set")
        expected = Expected({"resize": (20,), "crop": (16, 16), "interpolation": "bicubic"}, ("B", "c", "a"))
        fitted, options = loading.fitted(loading.find("folder:set"), expected)
        data = fitted.load("test", ())
        assert data.labels.tolist() == [2, 2, 2, 0, 0, 0] and data.classes == ("b", "", "a")
        again = loading.load("folder:set", options=json.loads(json.dumps(options)))
        assert again.sha256 == data.sha256 and torch.equal(again.labels, data.labels)
        own, options = loading.fitted(loading.find("folder:set(resize=18,crop=12)"), expected)
        assert own.load("test", ()).images.shape == (6, 3, 12, 12) and set(options) == {"labels", "count"}


def test_a_run_on_pictures_of_many_sizes_resumes_and_is_verified(bench: Callable) -> None:
    set_of("set")
    net = "return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))"
    Path("net.py").write_text(f"import torch\nfrom torch import nn\ndef make():\n    torch.manual_seed(0)\n    {net}\n")
    words = ("run", "--model", "net.py:make", "--data", "folder:set(resize=10,crop=8)", "--eps", "0.1", "--out", "r")
    assert bench(*words, "--attacks", "fgsm", "-n", "4", "--save-adversarial").code == 0
    assert bench(*words, "--attacks", "fgsm", "-n", "4", "--save-adversarial", "--resume").code == 0
    said = bench("verify", "r", "--trust")
    assert said.code == 0 and "clean images and labels are those of folder:set(resize=10,crop=8)" in said.out
