"""Which images `-n` takes: the first of a mixed set, of each class its share of one that is ordered by class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core.samples import Sample, parse_sample
from bench.core.types import ImageSet, UserError
from bench.data.sampling import in_blocks, stratified, taken


def ordered(*sizes: int) -> torch.Tensor:
    """Labels of so many images a class, class after class."""
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def image_set(labels: torch.Tensor) -> ImageSet:
    count = len(labels)
    return ImageSet("set", "test", torch.zeros(count, 1, 2, 2), labels, torch.arange(count), "", ())


class TestStratified:
    @pytest.mark.parametrize("count", [1, 3, 4, 10, 39])
    def test_equal_classes_have_equal_shares(self, count: int) -> None:
        labels = ordered(10, 10, 10, 10)
        counts = torch.bincount(labels[stratified(labels, count, 0)], minlength=4)
        assert int(counts.sum()) == count and int(counts.max() - counts.min()) <= 1

    def test_others_have_theirs_to_one_image(self) -> None:
        labels = ordered(800, 150, 50)
        for seed in range(20):
            counts = torch.bincount(labels[stratified(labels, 100, seed)], minlength=3)
            assert bool(((counts - torch.tensor([80, 15, 5])).abs() <= 1).all())

    def test_an_image_is_taken_once_and_all_of_them_in_the_end(self) -> None:
        labels = ordered(7, 3, 5)
        assert sorted(stratified(labels, 15, 4).tolist()) == list(range(15))

    def test_the_seed_decides_and_smaller_samples_are_in_larger_ones(self) -> None:
        labels = ordered(50, 50)
        long, short = stratified(labels, 40, 1).tolist(), stratified(labels, 10, 1).tolist()
        assert long[:10] == short and stratified(labels, 40, 2).tolist() != long
        assert stratified(labels, 3, -1).tolist() == stratified(labels, 3, 2**64 - 1).tolist()

    def test_draws_are_those_of_every_version_of_numpy(self) -> None:
        assert stratified(ordered(10, 10, 10), 6, 0).tolist() == [20, 11, 3, 21, 13, 2]

    def test_every_image_is_as_likely_as_another(self) -> None:
        labels = ordered(6, 3)
        counts = sum(torch.bincount(stratified(labels, 3, seed), minlength=9) for seed in range(3000))
        assert torch.allclose(counts / 3000, torch.tensor(1 / 3), atol=0.04)


def test_blocks_are_classes_that_stand_together_in_whatever_order() -> None:
    assert in_blocks(ordered(3, 3)) and in_blocks(torch.tensor([2, 2, 0, 1, 1]))
    assert (
        not in_blocks(torch.tensor([0, 1, 0, 1])) and not in_blocks(torch.zeros(5)) and not in_blocks(torch.arange(9))
    )


@pytest.mark.parametrize(
    ("labels", "choice", "count", "told"),
    [
        (ordered(4, 4), "auto", 4, "stratified"),
        (ordered(4, 4), "first", 4, "first"),
        (torch.tensor([0, 1] * 4), "auto", 4, "first"),
        (torch.tensor([0, 1] * 4), "stratified", 4, "stratified"),
        (ordered(4, 4), "auto", 8, ""),
        (ordered(4, 4), "auto", None, ""),
    ],
)
def test_how_images_are_chosen(labels: torch.Tensor, choice: str, count: int | None, told: str) -> None:
    data, said = taken(image_set(labels), count, choice, 0)  # type: ignore[arg-type]
    assert said == told and len(data) == (count or len(labels))
    if told != "stratified":
        assert data.indices.tolist() == list(range(len(data)))
    assert torch.equal(data.labels, labels[data.indices])


def test_what_is_written() -> None:
    assert parse_sample("7") == Sample(7, "auto") and parse_sample("first:7") == Sample(7, "first")
    assert parse_sample("stratified:1000") == Sample(1000, "stratified")
    for wrong in ("0", "-3", "first:", "last:3", "auto:3", ":3", "1e3", "first:3:4", "9" * 30, ""):
        with pytest.raises(UserError, match="write a whole number"):
            parse_sample(wrong)


@pytest.fixture
def folder(bench: Callable) -> Path:
    """Four classes of five digits each, as scikit-learn has them, in a folder."""
    from bench.data import loading

    digits = loading.load("digits", "test")
    for label in range(4):
        home = Path("set", str(label))
        home.mkdir(parents=True)
        for place in (digits.labels == label).nonzero().flatten().tolist()[:5]:
            Image.fromarray((digits.images[place, 0] * 255).byte().numpy().astype(np.uint8)).save(home / f"{place}.png")
    return Path("set")


WORDS = ("run", "--model", "tiny", "--data", "folder:set", "--attacks", "fgsm,pgd(steps=3)", "--eps", "0.1")


class TestFromTheCommandLine:
    def test_a_folder_is_sampled_and_the_record_and_captions_say_so(self, bench: Callable, folder: Path) -> None:
        said = bench(*WORDS, "-n", "8", "--out", "r", "--save-adversarial")
        record = json.loads(Path("r/run.json").read_text())
        assert record["sample"] == "stratified"
        assert sorted(index // 5 for index in record["indices"]) == [0, 0, 1, 1, 2, 2, 3, 3]
        assert "few classes" not in record.get("notes", [])
        assert "n = 8 (stratified)" in said.out and "n = 8 (stratified)" in Path("r/table.tex").read_text()
        assert bench("verify", "r").code == 0
        again = (*WORDS, "--out", "r", "--save-adversarial")
        assert bench(*again, "-n", "8", "--resume").code == 0
        assert bench(*again, "-n", "first:8", "--resume").code == 2
        assert bench(*again, "-n", "8", "--attacks", "noise", "--extend").code == 0

    def test_the_first_are_taken_where_that_is_asked(self, bench: Callable, folder: Path) -> None:
        assert bench(*WORDS, "-n", "first:4", "--out", "r").code == 0
        record = json.loads(Path("r/run.json").read_text())
        assert record["sample"] == "first" and record["indices"] == [0, 1, 2, 3]

    def test_all_of_them_are_no_sample(self, bench: Callable, folder: Path) -> None:
        bench(*WORDS, "--out", "r")
        assert "sample" not in json.loads(Path("r/run.json").read_text())

    def test_what_the_audit_names_is_run_on_the_same_images(self, bench: Callable, folder: Path) -> None:
        bench(*WORDS, "-n", "8", "--seed", "3", "--out", "r")
        said = bench("audit", "r", "--fix")
        assert said.code in (0, 1), said.err
        first, more = (json.loads(Path(name, "run.json").read_text()) for name in ("r", "r-fix-1"))
        assert first["indices"] == more["indices"] and more["sample"] == "stratified"
