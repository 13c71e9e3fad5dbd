"""Defenses: their losses, the training loop's promises, recipes and what a training leaves."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.core.registry import architectures, defenses
from bench.core.types import Checkpoint, UserError
from bench.data.loading import load as load_data
from bench.models import stanza_text, stanzas
from bench.models.weights import fit, read_tensors
from bench.ops import center_losses, losses, rng
from bench.ops.frozen import frozen
from defenses.defense import Defense, Trainee
from defenses.training import augment, parsing, setup, stanza, state
from defenses.training import loop as training
from defenses.training import optimizers as optimise
from defenses.training import recipe as recipes
from tests.support.checkout import ROOT

HEADS = {"mmc": "nearest", "mat": "centers"}
TINY = (
    "model.args.widths=[4, 8]",
    "model.args.fc=[16]",
    "data.limit=160",
    "data.held_out=32",
    "train.epochs=4",
    "train.batch_size=32",
    "train.warmup=0",
    "evaluation.every=2",
    "evaluation.steps=2",
)
VARIANTS = {
    "natural": {},
    "madry": {"steps": 3},
    "trades": {"steps": 3},
    "mmc": {},
    "mmc-at": {"adversarial": True, "steps": 3},
    "mat": {"steps": 3},
    "mat-plain": {"alpha": 0.0, "beta": 0.0},
    "mat-so": {"beta": 0.0},
    "mat-bibo": {"alpha": 0.0, "steps": 3},
}


def _model(name: str) -> nn.Module:
    torch.manual_seed(0)
    args = {"head": HEADS[name], "dim": 16} if name in HEADS else {}
    return architectures["digits_cnn"](widths=(4, 8), fc=(16,), **args)


def _defense(variant: str) -> tuple[str, Defense]:
    name = variant.partition("-")[0]
    fields = dict(VARIANTS[variant])
    if name != "natural":
        fields |= {"eps": "0.1", "step_size": "0.05"}
    return name, defenses[name](**fields)


def _batch(count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    data = load_data("digits", "train").select(slice(count))
    return data.images, data.labels, rng.keys(0, data.indices, "test")


def _tiny(name: str = "madry_digits", *more: str) -> recipes.Recipe:
    return recipes.load(name, (*TINY, *more))


def _weights(out: Path) -> bytes:
    return (out / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_is_a_finite_scalar_that_falls(variant: str) -> None:
    name, defense = _defense(variant)
    model, (x, y, keys) = _model(name), _batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    trainee = Trainee(model, nn.ModuleDict(), {"model": optimizer})
    values = [float(defense.step(trainee, x, y, keys)) for _ in range(12)]
    assert all(torch.tensor(values).isfinite())
    assert all(weight.grad is not None for weight in model.parameters())
    assert min(values[-3:]) < values[0]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("natural", "mmc")])
def test_inner_attack_stays_in_the_ball_and_climbs(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, defense = _defense(variant)
    model, (x, y, keys) = _model(name), _batch()
    climb, found = type(defense).climb, []

    def spy(self, *args):
        found.append(climb(self, *args))
        return found[-1]

    monkeypatch.setattr(type(defense), "climb", spy)
    defense.loss(model, x, y, keys)
    assert len(found) == (getattr(defense, "beta", 1) != 0)
    for x_adv in found:
        # Every float of the ball, exactly: eps is compared in double precision.
        assert float((x_adv.double() - x.double()).abs().max()) <= 0.1
        assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1
        assert float((x_adv - x).abs().amax((1, 2, 3)).min()) > 0.05
        if name == "mat":
            model.eval()
            moved = center_losses.cosine_distance(model.features(x), model.features(x_adv))
            nudged = center_losses.cosine_distance(model.features(x), model.features(x + 0.001))
            assert bool((moved > nudged).all())


def test_the_inner_attack_leaves_modes_weights_and_the_global_generator() -> None:
    name, defense = _defense("trades")
    model, (x, y, keys) = nn.Sequential(_model(name), nn.BatchNorm1d(10)), _batch()
    model[0].eval()
    before, statistics = torch.get_rng_state(), model[1].running_mean.clone()
    with frozen(model), frozen(model):
        assert not any(module.training for module in model.modules())
        assert not any(weight.requires_grad for weight in model.parameters())
        model(x)
    assert torch.equal(statistics, model[1].running_mean)
    defense.loss(model, x, y, keys)
    assert model.training and model[1].training and not model[0].training
    assert all(weight.requires_grad for weight in model.parameters())
    assert torch.equal(before, torch.get_rng_state())


def test_one_image_gets_the_adversarial_image_that_it_gets_in_a_batch() -> None:
    name, defense = _defense("madry")
    model, (x, y, keys) = _model(name).eval(), _batch(8)
    alone = [defense.loss(model, x[i : i + 1], y[i : i + 1], keys[i : i + 1]) for i in range(8)]
    assert torch.allclose(torch.stack(alone).mean(), defense.loss(model, x, y, keys), atol=1e-5)


def test_mat_is_the_sum_of_its_terms() -> None:
    name, defense = _defense("mat-so")
    model, (x, y, keys) = _model(name).eval(), _batch()
    z, centers = model.features(x), model.class_centers()
    expected = center_losses.feature_to_center(z, centers, y) + center_losses.second_order(z, centers, y)
    assert torch.allclose(defense.loss(model, x, y, keys), expected.mean())
    plain = replace(defense, alpha=0.0)
    assert torch.allclose(plain.loss(model, x, y, keys), center_losses.feature_to_center(z, centers, y).mean())
    both = replace(defense, beta=2.0)
    assert bool(both.loss(model, x, y, keys) > expected.mean())


def test_what_adaptive_attacks_are_told() -> None:
    assert defenses["mat"](alpha=0.5, beta=0.0).trained_with() == {"mat": {"alpha": 0.5, "beta": 0.0}}
    assert defenses["trades"](beta=1.0).trained_with() == {"kl": {"beta": 1.0}}
    assert defenses["mat"](beta=0.0).threat() is None
    threat = defenses["madry"](eps="8/255").threat()
    assert threat is not None and (threat.eps, threat.written) == (8 / 255, "8/255")


def test_same_seed_same_weights_whatever_the_global_generator(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    training.train(_tiny(), tmp_path / "a")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    training.train(_tiny(), tmp_path / "b")
    training.train(_tiny("madry_digits", "train.seed=1"), tmp_path / "c")
    assert _weights(tmp_path / "a") == _weights(tmp_path / "b") != _weights(tmp_path / "c")


@pytest.mark.parametrize("place", ["epoch", "save", "log"])
def test_resumed_after_a_kill_gives_the_same_weights(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _tiny(
        "madry_digits", "train.keep=best", "model.args.dropout=0.3", "model.args.fc=[16, 16]", "data.flip=true"
    )
    training.train(recipe, tmp_path / "whole")
    target, name = {
        "epoch": (optimise, "set_rate"),
        "save": (state, "fingerprint"),
        "log": (training, "_write_log"),
    }[place]
    original, calls = getattr(target, name), []

    def killed(*args):
        calls.append(1)
        # Somewhere inside the third epoch, or when it is about to be saved or logged.
        if len(calls) == {"epoch": 11, "save": 3, "log": 3}[place]:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(target, name, killed)
        training.train(recipe, tmp_path / "parts")
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    with pytest.raises(UserError, match="--resume"):
        training.train(recipe, tmp_path / "parts")
    training.train(recipe, tmp_path / "parts", resume=True)
    assert _weights(tmp_path / "whole") == _weights(tmp_path / "parts")
    logs = [list(csv.reader((tmp_path / part / "log.csv").open())) for part in ("whole", "parts")]
    assert [row[:-1] for row in logs[0]] == [row[:-1] for row in logs[1]]


def test_another_recipe_or_a_damaged_state_is_not_resumed(tmp_path: Path) -> None:
    training.train(_tiny("natural_digits"), tmp_path)
    with pytest.raises(UserError, match="another recipe"):
        training.train(_tiny("natural_digits", "train.lr=0.01"), tmp_path, resume=True)
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read"):
        training.train(_tiny("natural_digits"), tmp_path, resume=True)


def test_a_diverged_training_keeps_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, natural = _tiny("natural_digits"), defenses["natural"]
    calls = []

    def loss(self, model, x, y, keys):
        calls.append(1)
        return losses.cross_entropy(model(x), y).mean() * (torch.nan if len(calls) > 5 else 1)

    monkeypatch.setattr(natural, "loss", loss)
    with pytest.raises(training.DivergedError, match="epoch 2"):
        training.train(recipe, tmp_path)
    trainee = setup.trainee_of(recipe, setup.images(recipe.data, torch.device("cpu"))[0])
    assert state.restore(tmp_path / "state.pt", recipe, trainee).epochs == 1
    assert all(bool(weight.isfinite().all()) for weight in trainee.model.parameters())


def test_what_is_stored_is_what_was_evaluated_and_loads_by_name(tmp_path: Path) -> None:
    checkpoints = pytest.importorskip("bench.models.checkpoints")
    recipe = _tiny("mat_digits", "train.store=float16", "model.args.dim=16")
    row = training.train(recipe, tmp_path / "out", command='a command with "quotes"')
    (entry,) = stanzas.read(tmp_path / "out" / "stanza.toml").values()
    assert entry.name == "mat_digits" and entry.defense == "mat" and entry.command.endswith('"quotes"')
    assert (
        entry.trained_for.written == str(recipe.defense.eps)
        and entry.trained_with["mat"]["beta"] == recipe.defense.beta
    )
    model = checkpoints.load_checkpoint(entry).model
    _, held_out = setup.images(recipe.data, torch.device("cpu"))
    accuracy = float((model(held_out.images).argmax(1) == held_out.labels).float().mean())
    assert accuracy == pytest.approx(row["held_out_accuracy"])
    stored = read_tensors(tmp_path / "out" / "weights.safetensors")
    assert stored["body.fc1.0.weight"].dtype == torch.float16 and stored["head.centers"].dtype == torch.float32

    registry = tmp_path / "checkpoints.toml"
    registry.write_text('[first]\narch = "mlp"\n\n# about last\n[last]\narch = "mlp"\n[last.rename]\na = "b"\n')
    for _ in range(2):
        stanza.adopt(tmp_path / "out", registry)
    assert list(tomllib.loads(registry.read_text())) == ["first", "last", "mat_digits"]
    assert "# about last\n[last]" in registry.read_text()
    assert (tmp_path / "results" / "training" / "mat_digits.csv").exists()
    fit(model, read_tensors(checkpoints.find_weights(stanzas.read(registry)["mat_digits"])))
    stanza.adopt(tmp_path / "out", registry, "another")
    assert stanzas.read(registry)["another"].recipe == stanzas.read(registry)["mat_digits"].recipe
    fit(model, read_tensors(checkpoints.find_weights(stanzas.read(registry)["another"])))
    with pytest.raises(UserError, match="cannot be named"):
        stanza.adopt(tmp_path / "out", registry, "an other")


def test_replacing_a_stanza_leaves_its_neighbours() -> None:
    b = '# about b\n[b]\nx = "2"\n# inside b\ny = "3"\n\n[b.rename]\np = "q"\n'
    text = f'[a]\nx = "1"\n\n{b}\n# about c\n[c]\nx = "4"\n'
    new = stanza_text.with_stanza(text, Checkpoint("b", "5"))
    assert tomllib.loads(new) == {"a": {"x": "1"}, "b": {"arch": "5"}, "c": {"x": "4"}}
    assert "# about b\n[b]" in new and "# about c\n[c]" in new


@pytest.mark.parametrize("name", parsing.names())
def test_every_recipe_reads_and_states_its_source(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.paper.source and recipe.name == name and recipe.threat() is not None
    model = architectures[recipe.model.arch]
    assert callable(model)
    if name.endswith("_digits"):
        missing = [need for need in recipe.defense.needs if not hasattr(model(**recipe.model.args), need)]
        assert not missing


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.epoch=5"], "train.epoch is unknown: did you mean epochs"),
        (["trian.epochs=5"], "trian is unknown: did you mean train"),
        (["defense.betta=5"], "defense.betta is unknown: did you mean beta"),
        (["train.epochs=many"], "train.epochs is 'many': give a whole number of at least 1"),
        (["train.epochs=0"], "train.epochs is 0: give a whole number of at least 1"),
        (["train.momentum=-5"], "train.momentum is -5.0: give a number of at least 0 and at most 1"),
        (["train.momentum=true"], "train.momentum is True: give a number"),
        (["train.lr=nan"], "train.lr is nan: give a number above 0"),
        (["train.epochs=4", "train.warmup=4"], "train.warmup is 4.0, all of"),
        (["train.milestones=[1, 'two']"], "train.milestones is"),
        (["train=3"], "train is 3, not a table"),
        (["defense=3"], "defense.name is missing"),
        (["data.limit=-5"], "data.limit is -5: give a whole number of at least 1 or None"),
        (["defense.eps=8"], "eps 8 in linf is beyond the range of images"),
        (["evaluation.eps=8"], "eps 8 in linf is beyond the range of images"),
        (["defense.steps=-5"], "defense.steps is -5: give a whole number of at least 1"),
        (["defense.beta=inf"], "defense.beta is inf: give a number of at least 0"),
        (["defense.norm=l7"], "defense.norm is 'l7'"),
        (["train.optimizer=adamw"], "did you mean adam"),
        (["defense.eps=-1"], "at least 0"),
        (["defense.name=trade"], "unknown defense 'trade': did you mean trades"),
        (["train"], "not key=value"),
        (["model.args.widht=[4]"], "widht"),
        (["model.arch=digits_cn"], "did you mean digits_cnn"),
        (["model.args.classes=9"], "set model.args.classes"),
        (["data.held_out=2000"], "leaves none"),
        (["train.device=gpu"], "use cpu or auto"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        training.train(recipes.load("trades_digits", tuple(settings)), tmp_path / "out")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_defense_refuses_a_model_without_centers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mat needs a model with class_centers: set model\.args\.head"):
        training.train(recipes.load("mat_digits", ("model.args.head=linear",)), tmp_path)


def test_settings_are_read_as_toml_or_as_text() -> None:
    recipe = recipes.load("trades_digits", ("defense.eps=8/255", "train.lr=1", "model.args.widths=[4, 8]", "name=mine"))
    assert (recipe.defense.eps, recipe.train.lr, recipe.name) == ("8/255", 1.0, "mine")
    assert recipe.model.args["widths"] == [4, 8]
    assert recipes.load("trades_digits", ("defense.eps=0.1",)).defense.eps == "0.1"


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "child.toml").write_text('extends = "mat_digits"\n[train]\nepochs = 9\n[defense]\nname = "natural"\n')
    recipe = recipes.load(str(tmp_path / "child.toml"))
    assert (
        recipe.defense == defenses["natural"]() and recipe.train.epochs == 9 and recipe.model.args["head"] == "centers"
    )
    (tmp_path / "loop.toml").write_text('extends = "loop"\n')
    with pytest.raises(UserError, match="extends itself"):
        recipes.load(str(tmp_path / "loop.toml"))


def test_schedules() -> None:
    part = recipes.TrainPart(epochs=10, schedule="milestones", milestones=(5, 8), warmup=1)
    assert [optimise.factor(part, at) for at in (0.5, 4, 5, 9)] == pytest.approx([0.5, 1, 0.1, 0.01])
    cosine = replace(part, schedule="cosine", warmup=0)
    assert [optimise.factor(cosine, at) for at in (0, 5, 10)] == pytest.approx([1, 0.5, 0], abs=1e-9)


def test_weight_decay_can_spare_biases() -> None:
    model = _model("natural")
    optimizer = optimise.optimizer_maker(recipes.TrainPart(1, weight_decay=0.1, decay_on="kernels"))(model)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_augmentation_is_by_key_and_keeps_the_shape() -> None:
    x, _, keys = _batch(16)
    moved = augment.cropped(x, keys, 2)
    assert moved.shape == x.shape and not torch.equal(moved, x)
    assert torch.equal(augment.cropped(x[3:5], keys[3:5], 2), moved[3:5])
    padded = nn.functional.pad(x[0], (2, 2, 2, 2))
    windows = [padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
    assert any(torch.equal(window, moved[0]) for window in windows)
    mirrored = augment.flipped(x, keys)
    assert {bool(torch.equal(a, b)) for a, b in zip(mirrored, x, strict=True)} == {True, False}
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(mirrored, x, strict=True))


def test_a_defense_may_bring_modules_and_steps_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    natural = defenses["natural"]

    def modules(self, model):
        return nn.ModuleDict({"critic": nn.Linear(10, 1)})

    def optimizers(self, model, modules, make):
        return {"model": make(model), "critic": make(modules["critic"], lr=0.5)}

    def step(self, trainee, x, y, keys):
        logits = trainee.model(x)
        trainee.descend(losses.cross_entropy(logits, y).mean() + trainee.modules["critic"](logits).square().mean())
        return logits.detach().mean()

    for name, method in (("modules", modules), ("optimizers", optimizers), ("step", step)):
        monkeypatch.setattr(natural, name, method)
    training.train(_tiny("natural_digits"), tmp_path)
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    assert set(content["optimizers"]) == {"model", "critic"} and "critic.weight" in content["modules"]


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "defenses", *arguments]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=here, timeout=120, check=False)


def test_the_command(tmp_path: Path) -> None:
    tiny = [part for setting in TINY for part in ("--set", setting)]
    done = _run("train", "natural_digits", *tiny, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "held-out clean" in done.stdout and done.stderr == ""
    assert (tmp_path / "out" / "stanza.toml").exists()
    bad = _run("train", "natural_digit", cwd=tmp_path)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "natural_digits" in bad.stderr
