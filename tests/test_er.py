"""ER-Classifier: nets, critic and priors, the updates of a batch, data in the official formats, probes."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from torch import nn

from bench.core import files, registry
from bench.core.registry import architectures, datasets, defenses, probes
from bench.core.types import CLEAN, UserError
from bench.data import tiny_imagenet
from bench.data.loading import load as load_data
from bench.data.official import OfficialFile
from bench.evaluation.probes import intrinsic_dimension as dimension
from bench.evaluation.probes.plane import in_plane
from bench.evaluation.probes.probe import Exhibit, Images
from bench.ops import losses, rng
from defenses import critic
from defenses import er as er_module
from defenses.defense import Trainee
from defenses.training import loop as training
from defenses.training import optimizers, setup
from defenses.training import recipe as recipes
from tests import subjects

TINY = (
    "model.args={widths=[4,8],fc=[16]}",
    "data.limit=160",
    "data.held_out=32",
    "train.epochs=3",
    "train.batch_size=32",
    "train.warmup=0",
    "evaluation.every=2",
    "evaluation.steps=2",
    "defense.steps=2",
)


def trainee(defense: er_module.ER, **rest: object) -> Trainee:
    torch.manual_seed(0)
    model = architectures["er_digits"](widths=(4, 8), fc=(16,), **rest)
    make = optimizers.optimizer_maker(recipes.TrainPart(1, optimizer="adam", lr=0.01))
    modules = defense.modules(model)
    return Trainee(model.train(), modules, defense.optimizers(model, modules, make))


def er(**fields: object) -> er_module.ER:
    return defenses["er"](**{"eps": "0.1", "step_size": "0.05", "steps": 2, "width": 16, "clip": 0.1} | fields)


def batch(count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    data = load_data("digits", "train").select(slice(count))
    return data.images, data.labels, rng.keys(0, data.indices, "test")


class TestNets:
    @pytest.mark.parametrize(
        ("name", "shape", "small", "dim"),
        [
            ("er_digits", (1, 8, 8), {}, 4),
            ("er_mnist", (1, 28, 28), {"widths": (4, 8, 8, 16), "fc": (8, 8)}, 4),
            ("er_cifar10", (3, 32, 32), {"width": 0.05}, 16),
            ("er_stl10", (3, 96, 96), {"widths": (4, 4, 4, 8, 8)}, 16),
            ("er_tiny_imagenet", (3, 64, 64), {"width": 0.05}, 20),
        ],
    )
    def test_is_cut_at_its_codes(self, name: str, shape: tuple[int, ...], small: dict[str, object], dim: int) -> None:
        channels = shape[0]
        model = architectures[name](mean=[0.5] * channels, std=[0.5] * channels, **small).eval()
        x = torch.rand(2, *shape)
        z = model.features(x)
        assert z.shape == (2, dim) and torch.equal(model(x), model.classify(z))
        assert er_module.code_width(model) == dim and (z < 0).any()
        assert architectures[name](dim=2, **small).eval().features(x).shape == (2, 2)

    def test_tables_7_and_8(self) -> None:
        kinds = [type(part) for part in architectures["er_mnist"]().body]
        assert kinds.count(nn.Conv2d) == 4 and kinds.count(nn.BatchNorm2d) == 3
        vgg = architectures["er_cifar10"](width=0.05)
        assert sum(isinstance(part, nn.Conv2d) for part in vgg.body) == 16
        assert sum(isinstance(part, nn.Linear) for part in vgg.head) == 4 and isinstance(vgg.head[1], nn.Dropout)
        assert sum(isinstance(part, nn.Conv2d) for part in architectures["er_tiny_imagenet"](width=0.05).body) == 13

    def test_refuses_what_cannot_be(self) -> None:
        with pytest.raises(UserError, match="too small"):
            architectures["er_mnist"](image=8, widths=(2, 2, 2, 2))
        with pytest.raises(UserError, match="dim 1 or more"):
            architectures["er_digits"](dim=0)


class TestCritic:
    @pytest.mark.parametrize("prior", critic.PRIORS)
    def test_priors_have_the_quantiles_they_should(self, prior: str) -> None:
        found = critic.draws(prior, rng.keys(0, torch.arange(20000), "prior"), 2)
        assert found.isfinite().all() and found.shape == (20000, 2)
        expected = {"gaussian": (-0.6745, 0, 0.6745), "uniform": (-1.5, 0, 1.5), "cauchy": (-1, 0, 1)}[prior]
        assert found.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx(expected, abs=0.03)
        assert torch.equal(critic.draws(prior, rng.keys(0, torch.arange(5), "prior"), 2), found[:5])

    def test_is_log_sigmoid_of_five_layers_and_clips(self) -> None:
        net = critic.Critic(4)
        assert [part.out_features for part in net.layers if isinstance(part, nn.Linear)] == [512] * 4 + [1]
        z = torch.randn(6, 4)
        assert torch.allclose(net(z), net.layers(z).sigmoid().log().squeeze(1)) and (net(z) < 0).all()
        net.clip(0.01)
        assert max(float(weight.detach().abs().max()) for weight in net.parameters()) <= 0.01


class TestTraining:
    def test_e_cla_is_cross_entropy_with_two_optimisers(self) -> None:
        defense = er(weight=0.0, minmax=False, classifier_rate=1.0)
        mine, (x, y, keys) = trainee(defense), batch()
        assert set(mine.optimizers) == {"encoder", "classifier"} and not len(mine.modules)
        other = trainee(defense)
        plain = torch.optim.Adam(other.model.parameters(), 0.01)
        for _ in range(3):
            defense.step(mine, x, y, keys)
            plain.zero_grad()
            losses.cross_entropy(other.model(x), y).mean().backward()
            plain.step()
        pairs = zip(mine.model.parameters(), other.model.parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)

    @pytest.mark.parametrize("quirks", [False, True])
    def test_a_batch_is_what_the_paper_s_code_does_step_by_step(self, quirks: bool) -> None:
        """Against a plain transcription of the order in the defense's docstring, with autograd's own bookkeeping."""
        defense = er(weight=0.5, minmax=True, reference_quirks=quirks, classifier_rate=0.5)
        mine, slow, (x, y, keys) = trainee(defense), trainee(defense), batch()
        mine.epoch = slow.epoch = 1
        for _ in range(2):
            defense.step(mine, x, y, keys)
            plain_step(defense, slow, x, y, keys, quirks)
        for a, b in zip(
            [*mine.model.parameters(), *mine.modules.parameters()],
            [*slow.model.parameters(), *slow.modules.parameters()],
            strict=True,
        ):
            assert torch.allclose(a, b, atol=1e-6)
        assert mine.model.training is not quirks

    def test_the_codes_move_toward_the_prior(self) -> None:
        x, y, keys = batch(256)
        spreads = {}
        for weight in (0.0, 5.0):
            defense = er(weight=weight, minmax=False, width=64)
            mine = trainee(defense)
            with torch.no_grad():
                mine.model.embed.bias += 6
            for turn in range(60):
                defense.step(mine, x, y, rng.fold(keys, turn))
            mine.model.eval()
            spreads[weight] = float(mine.model.features(x).mean(0).detach().abs().mean())
        assert spreads[5.0] < 0.7 * spreads[0.0]

    def test_min_max_waits_for_its_delay_and_attacks_the_prediction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        climb = er_module.ER.climb

        def spy(self, model, objective, ball, labels, start):
            seen.append(labels)
            return climb(self, model, objective, ball, labels, start)

        monkeypatch.setattr(er_module.ER, "climb", spy)
        defense, (x, y, keys) = er(delay=1), batch()
        mine = trainee(defense)
        defense.step(mine, x, y, keys)
        assert not seen
        mine.epoch = 1
        mine.model.eval()
        predicted = mine.model(x).argmax(1)
        mine.model.train()
        defense.step(mine, x, y, keys)
        assert torch.equal(seen[0], predicted)
        replace(defense, own_labels=False).step(mine, x, y, keys)
        assert torch.equal(seen[1], y)

    def test_resumed_after_a_kill_gives_the_same_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recipe = recipes.load("er_digits", TINY)
        training.train(recipe, tmp_path / "whole")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            write, calls = training._write_log, []

            def killed(*args):
                calls.append(1)
                if len(calls) == 2:
                    raise KeyboardInterrupt
                write(*args)

            patch.setattr(training, "_write_log", killed)
            training.train(recipe, tmp_path / "parts")
        training.train(recipe, tmp_path / "parts", resume=True)
        weights = [(tmp_path / part / "weights.safetensors").read_bytes() for part in ("whole", "parts")]
        assert weights[0] == weights[1]
        stanza = (tmp_path / "whole" / "stanza.toml").read_text()
        assert 'trained_with = { er = { weight = 0.05, prior = "gaussian", minmax = true } }' in stanza

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ("defense.prior=gausian", "did you mean gaussian"),
            ("defense.clip=0", "clip 0.0 is out of range"),
            ("defense.weight=-1", "neither can be below 0"),
        ],
    )
    def test_bad_settings_are_one_line(self, setting: str, said: str) -> None:
        with pytest.raises(UserError, match=said) as fault:
            recipes.load("er_digits", (setting,))
        assert "\n" not in str(fault.value)

    def test_another_net_is_refused(self) -> None:
        recipe = recipes.load("er_digits", ("model.arch=digits_cnn", "model.args={head='centers'}"))
        data, _ = setup.images(recipe.data, torch.device("cpu"))
        with pytest.raises(UserError, match="starts with a linear layer"):
            setup.trainee_of(recipe, data)

    def test_threats(self) -> None:
        assert er(minmax=False).threat() is None and er().threat() is not None
        short = recipes.load("er_mnist_short")
        assert (short.train.epochs, short.train.mixed_precision, short.defense.minmax) == (6, "on", True)


def plain_step(
    defense: er_module.ER, slow: Trainee, x: torch.Tensor, y: torch.Tensor, keys: torch.Tensor, quirks: bool
) -> None:
    model, judge, steps = slow.model, slow.modules["critic"], slow.optimizers

    def clear(always: bool = False) -> None:
        if always or not quirks:
            model.zero_grad()
            judge.zero_grad()

    if quirks:
        model.eval()
    inputs = [x, defense._adversarial(model, x, y, keys)]
    clear(always=True)
    for place, part in enumerate(inputs):
        clear()
        codes = model.features(part).detach()
        prior = critic.draws("gaussian", rng.fold(keys, place + 1), 4)
        (judge(prior).mean() - judge(codes).mean()).backward()
        steps["critic"].step()
        judge.clip(defense.clip)
    kept = [weight.grad for weight in judge.parameters()]
    clear()
    (sum(losses.cross_entropy(model(part), y).mean() for part in inputs) / 2).backward()
    steps["classifier"].step()
    steps["encoder"].step()
    for part in inputs:
        clear()
        (defense.weight * judge(model.features(part)).mean()).backward()
        steps["encoder"].step()
    for weight, gradient in zip(judge.parameters(), kept, strict=True):
        weight.grad = gradient


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


def exhibit(x: torch.Tensor, y: torch.Tensor | None = None) -> Exhibit:
    count = len(x)
    y = torch.zeros(count, dtype=torch.int64) if y is None else y
    clean = Images(CLEAN, "", None, x, y, torch.arange(count), torch.zeros(count, dtype=torch.bool))
    return Exhibit(clean, (), {"seed": 0}, 64)


class TestProbes:
    def test_intrinsic_dimension_is_the_printed_sum(self) -> None:
        points = np.random.default_rng(0).normal(size=(40, 5))
        apart = np.sort(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)[:, 1:]
        slow = []
        for k in range(6, 13):
            inverses = [sum(np.log(row[k - 1] / row[j]) for j in range(k - 1)) / (k - 2) for row in apart]
            slow.append(1 / np.mean(inverses))
        images = torch.from_numpy(points).view(40, 1, 1, 5)
        found = probes["intrinsic_dimension"]()(None, exhibit(images)).iloc[0]
        assert found["dimension"] == pytest.approx(np.mean(slow)) and found["low"] == pytest.approx(min(slow))
        assert found["n"] == 40 and found["size"] == 5

    @pytest.mark.parametrize("true", [2, 5])
    def test_intrinsic_dimension_of_a_flat_sheet(self, true: int) -> None:
        codes = rng.uniform(rng.keys(0, torch.arange(1500), "sheet"), (true,))
        axes, _ = torch.linalg.qr(torch.randn(30, true))
        found = probes["intrinsic_dimension"]()(None, exhibit((codes @ axes.T).view(-1, 1, 5, 6))).iloc[0]
        assert found["dimension_k1"] == pytest.approx(true, rel=0.1) and found["dimension"] < found["dimension_k1"]
        assert found["n"] == 1000

    def test_equal_images_count_once_and_too_few_are_one_line(self) -> None:
        images = torch.rand(20, 1, 2, 2)
        once = probes["intrinsic_dimension"]()(None, exhibit(images))
        twice = probes["intrinsic_dimension"]()(None, exhibit(torch.cat([images, images])))
        assert once["dimension"].tolist() == pytest.approx(twice["dimension"].tolist()) and once["n"].tolist() == [20]
        with pytest.raises(UserError, match="more than 12 different images, and there are 1"):
            probes["intrinsic_dimension"]()(None, exhibit(torch.zeros(30, 1, 2, 2)))
        with pytest.raises(UserError, match="3 <= k1 <= k2"):
            probes["intrinsic_dimension"](k1=2)(None, exhibit(images))

    def test_nearest_distances_do_not_depend_on_the_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        points = torch.rand(30, 4)
        whole = dimension.nearest_distances(points, 7)
        monkeypatch.setattr(dimension, "_SLICE", 8)
        assert torch.equal(dimension.nearest_distances(points, 7), whole)

    def test_rademacher_surface_of_a_linear_model(self) -> None:
        model = subjects.linear((1, 6, 6), 3)
        x, y = subjects.images(model, 4)
        found = probes["rademacher_surface"](points=5, images=2)(model, exhibit(x, y))
        assert len(found) == 50 and set(found["index"]) == {0, 1}
        middle = found[(found["index"] == 1) & (found["along"] == 0) & (found["across"] == 0)].iloc[0]
        assert middle["loss"] == pytest.approx(float(losses.cross_entropy(model(x[1:2]), y[1:2])), abs=1e-6)
        along = found[(found["index"] == 1) & (found["across"] == 0)].sort_values("along")
        assert (np.diff(along["loss"]) > 0).all()
        signs = rng.signs(rng.keys(0, torch.tensor([1]), "rademacher surface"), (1, 6, 6))
        corner = found[(found["index"] == 1) & (found["along"] == 0)].sort_values("across").iloc[-1]
        loss = losses.cross_entropy(model(x[1:2] + 8 / 255 * signs), y[1:2])
        assert corner["loss"] == pytest.approx(float(loss), abs=1e-5)

    def test_plane_keeps_two_features_and_projects_more(self) -> None:
        z = torch.randn(50, 6) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])
        assert torch.equal(in_plane(z[:, :2]), z[:, :2])
        assert torch.equal(in_plane(z[:, :1])[:, 1], torch.zeros(50))
        mine, theirs = in_plane(z).numpy(), PCA(2).fit_transform(z.double().numpy())
        assert np.abs(mine) == pytest.approx(np.abs(theirs), abs=1e-6)
        assert torch.equal(in_plane(torch.ones(5, 4)), torch.zeros(5, 2, dtype=torch.float64))
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 20)
        found = probes["plane"](limit=12)(model, exhibit(x, y))
        assert isinstance(found, pd.DataFrame) and len(found) == 12 and set(found["size"]) == {8}
