"""Models from where people keep them: transformers, TorchScript, timm, ONNX; what is recorded, and what is refused."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from bench import evaluate
from bench.core.types import UserError
from bench.models import checkpoints, stanzas
from bench.models.adapted import adapted
from bench.models.preprocessing import Preprocessed
from bench.models.weight_files import presence
from tests.models.test_checkpoints import refused
from tests.support.libraries import library

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory, without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_MODELS", raising=False)
    return tmp_path


def vit(folder: str = "vit", processor: bool = True, **more: Any) -> Any:
    """A tiny vision transformer of four classes on 16x16 images, saved as transformers saves it."""
    transformers = library("transformers")
    torch.manual_seed(0)
    names = {0: "cat", 1: "ant", 2: "dog", 3: "bee"}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=4, id2label=names)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    if processor:
        given = {"size": {"height": 16, "width": 16}, "image_mean": MEAN, "image_std": STD, **more}
        transformers.ViTImageProcessorPil(**given).save_pretrained(folder)
    return model


def pictures(count: int = 3, side: int = 16) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, side, side), generator=draw).float() / 255


def as_its_own_processor_has_it(folder: str, x: Tensor) -> Tensor:
    """What transformers itself makes of images in [0, 1]."""
    processor = library("transformers").AutoImageProcessor.from_pretrained(folder, backend="pil")
    files = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in x]
    return torch.from_numpy(np.stack(processor(files)["pixel_values"]))


class TestTransformers:
    def test_logits_are_those_of_transformers_behind_its_own_processor(self) -> None:
        model, x = vit(), pictures()
        with torch.no_grad():
            wanted = model(as_its_own_processor_has_it("vit", x)).logits
            logits = adapted(checkpoints.load("hf:vit").model, x)(x)
        torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(("resample", "atol"), [(2, 0.03), (3, 0.05)])
    def test_images_of_another_size_are_resized_inside_the_model(self, resample: int, atol: float) -> None:
        vit(resample=resample)
        x = pictures(side=40)
        loaded = checkpoints.load("hf:vit")
        assert isinstance(loaded.model, Preprocessed)
        seen = list[Tensor]()
        loaded.model.model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        loaded.model(x.requires_grad_()).logits.sum().backward()
        # Pillow rounds to bytes between its two passes, and nothing here does.
        torch.testing.assert_close(seen[0], as_its_own_processor_has_it("vit", x.detach()).float(), atol=atol, rtol=0)
        assert x.grad is not None and bool((x.grad != 0).any())

    @pytest.mark.parametrize(
        ("said", "mean", "std"),
        [
            ({"do_normalize": False}, (), ()),
            ({"do_normalize": False, "rescale_factor": 1 / 127.5}, (0.0,), (0.5,)),
            ({"do_rescale": False, "image_mean": [127.5], "image_std": [51.0]}, (0.5,), (0.2,)),
        ],
    )
    def test_what_the_processor_says_of_numbers_becomes_a_mean_and_a_std(
        self, said: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        vit(**said)
        model = checkpoints.load("hf:vit").model
        assert isinstance(model, Preprocessed)
        assert model.steps.mean == pytest.approx(mean) and model.steps.std == pytest.approx(std)

    def test_the_offset_of_efficientnet_is_taken_away(self) -> None:
        vit()
        path = Path("vit/preprocessor_config.json")
        config = json.loads(path.read_text()) | {"image_processor_type": "EfficientNetImageProcessor"}
        config |= {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False, "do_center_crop": False}
        path.write_text(json.dumps(config))
        x = pictures()
        torch.testing.assert_close(_before(checkpoints.load("hf:vit").model, x), 2 * x - 1, atol=1e-5, rtol=0)

    def test_a_model_without_a_processor_is_given_images_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        vit("bare", processor=False)
        assert not isinstance(checkpoints.load("hf:bare").model, Preprocessed)
        assert "hf:bare has no image processor" in capsys.readouterr().err

    def test_weights_in_half_precision_are_widened(self) -> None:
        vit().half().save_pretrained("vit")
        assert {weight.dtype for weight in checkpoints.load("hf:vit").model.parameters()} == {torch.float32}

    def test_a_head_that_was_never_trained_is_refused(self) -> None:
        from safetensors.torch import load_file

        vit()
        tensors = load_file("vit/model.safetensors")
        kept = {name: value for name, value in tensors.items() if "classifier" not in name}
        save_file(kept, "vit/model.safetensors", {"format": "pt"})
        assert "its weights lack classifier.bias, classifier.weight" in refused("hf:vit")

    def test_its_own_code_is_never_run(self) -> None:
        vit()
        path = Path("vit/config.json")
        auto = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto, "model_type": "evil"}))
        Path("vit/evil.py").write_text("raise SystemExit('run')")
        assert "cannot be loaded" in refused("hf:vit")

    def test_what_is_nowhere_is_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library("transformers")
        assert "there is no folder" in refused("hf:models/of/mine")

        def unknown(*_: object) -> None:
            raise OSError(-2, "Name or service not known")

        hf = import_module("bench.models.sources.hf")
        monkeypatch.setattr(hf, "getaddrinfo", unknown)
        monkeypatch.setattr(hf, "getproxies", dict)
        assert "cannot be downloaded" in refused("hf:nobody/nothing")

    def test_what_the_configuration_says_of_images_and_classes(self) -> None:
        vit()
        expected = checkpoints.load("hf:vit").checkpoint.expected
        assert expected is not None and expected.classes == ("cat", "ant", "dog", "bee")
        assert expected.transform["resize"] == (16, 16) and expected.transform["interpolation"] == "bilinear"


def _before(model: nn.Module, x: Tensor) -> Tensor:
    """What reaches the model inside a `Preprocessed`."""
    assert isinstance(model, Preprocessed)
    seen = list[Tensor]()
    hook = model.model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    model(x)
    hook.remove()
    return seen[0]


def script(path: str = "net.pt") -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    torch.jit.script(net).save(path)
    return net


class TestTorchScript:
    def test_logits_are_those_of_the_net_behind_mean_and_std(self) -> None:
        net, x = script(), torch.rand(4, 1, 8, 8)
        assert torch.equal(checkpoints.load("torchscript:net.pt").model(x), net(x))
        logits = checkpoints.load("torchscript:net.pt(mean=(0.5,),std=(0.25,))").model(x)
        torch.testing.assert_close(logits, net((x - 0.5) / 0.25))

    def test_a_path_with_brackets_is_a_path(self) -> None:
        script("net(1).pt")
        checkpoints.load("torchscript:net(1).pt")

    def test_is_code_where_a_stored_file_names_it(self, run: Any, bench: Any) -> None:
        script()
        run("--model", "torchscript:net.pt", "--data", "digits", "--save-adversarial")
        assert "which is code" in bench("verify", "r").err
        assert bench("verify", "r", "--trust").code == 0

    def test_is_another_model_where_its_file_has_changed(self, run: Any, bench: Any) -> None:
        script()
        given = ("--model", "torchscript:net.pt", "--data", "digits")
        run(*given)
        run(*given, "--resume")
        torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).save("net.pt")
        said = bench("run", *given, *FGSM, "--resume")
        assert said.code == 2 and "weights_sha256" in said.err

    def test_another_file_is_one_line(self) -> None:
        torch.save({"a": torch.ones(1)}, "state.pt")
        Path("text.pt").write_text("no archive")
        for name in ("state.pt", "text.pt"):
            assert "give a file that torch.jit.save wrote" in refused(f"torchscript:{name}")
        assert "there is no file" in refused("torchscript:nothing.pt")


FGSM = ("--attacks", "fgsm", "--eps", "0.1", "-n", "8", "--out", "r")


@pytest.fixture
def run(bench: Any) -> Any:
    """The record of a short run on the command line."""

    def made(*words: str) -> dict[str, Any]:
        said = bench("run", *words, *FGSM)
        assert said.code == 0, said.err
        record: dict[str, Any] = json.loads(Path("r/run.json").read_text())
        return record

    return made


def test_a_run_says_where_its_model_came_from_and_what_is_done_to_images(run: Any, bench: Any) -> None:
    vit()
    for name in ("ant", "bee"):
        Path("pics", name).mkdir(parents=True)
        for place, image in enumerate(pictures(6)):
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(f"pics/{name}/{place}.png")
    record = run("--model", "hf:vit", "--data", "folder:pics", "--save-adversarial")
    origin = record["origin"]
    assert origin["source"].startswith("transformers ") and origin["kind"] == "ViTForImageClassification"
    assert origin["size"] == [16, 16] and origin["normalise"] == {"mean": MEAN, "std": STD}
    assert record["sources"] == origin["files"] and list(origin["files"]) == ["model.safetensors"]
    assert record["logits_at"] == "logits"
    assert bench("verify", "r").code == 0


class TestStanzas:
    def test_normalise_stands_in_front_of_the_model_and_in_the_record(self, run: Any) -> None:
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        made = "return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"
        Path("net.py").write_text(f"from torch import nn\ndef make():\n    {made}\n")
        save_file(net.state_dict(), "net.safetensors")
        stanza = '[mine]\narch = "net.py:make"\nweights = "net.safetensors"\ndata = "digits"\n'
        Path("checkpoints.toml").write_text(stanza + "normalise = { mean = [0.5], std = [0.25] }\n")
        x = torch.rand(4, 1, 8, 8)
        torch.testing.assert_close(checkpoints.load("mine").model(x), net((x - 0.5) / 0.25))
        assert run("--model", "mine")["origin"] == {"normalise": {"mean": [0.5], "std": [0.25]}}

    @pytest.mark.parametrize(
        "value", ["{ mean = [0.5] }", "{ mean = [0.5], std = [0.0] }", '{ mean = ["a"], std = [1] }']
    )
    def test_a_normalise_of_another_form_is_refused(self, value: str) -> None:
        script()
        Path("checkpoints.toml").write_text(f'[mine]\narch = "torchscript:net.pt"\nnormalise = {value}\n')
        assert "normalise" in refused("mine") and "write { mean" in refused("mine")

    def test_a_source_may_be_the_architecture(self) -> None:
        net, x = script(), torch.rand(4, 1, 8, 8)
        Path("checkpoints.toml").write_text(
            '[mine]\narch = "torchscript:net.pt"\nargs = { mean = [0.5], std = [0.25] }\n'
        )
        torch.testing.assert_close(checkpoints.load("mine").model(x), net((x - 0.5) / 0.25))

    def test_a_program_must_lie_beside_the_file_that_names_it(self) -> None:
        Path("inside").mkdir()
        Path("inside/checkpoints.toml").write_text('[mine]\narch = "torchscript:../net.pt"\n')
        with pytest.raises(UserError, match="outside the folder"):
            stanzas.read(Path("inside/checkpoints.toml"))

    def test_the_list_says_which_weights_are_here(self, bench: Any) -> None:
        save_file({"a": torch.ones(1)}, "here.safetensors")
        url = f'weights = "https://example.org/a.pt"\nsha256 = "{"0" * 64}"\n'
        Path("checkpoints.toml").write_text(
            '[one]\narch = "mlp"\nweights = "here.safetensors"\n[two]\narch = "mlp"\nweights = "gone.pt"\n'
            f'[three]\narch = "mlp"\n{url}[four]\narch = "hf:vit"\n'
        )
        known = stanzas.registry().models
        seen = {name: presence(known[name]) for name in ("one", "two", "three", "four")}
        assert seen == {"one": "present", "two": "absent", "three": "to fetch", "four": "-"}
        lines = bench("list", "models").out.splitlines()
        assert any(line.startswith("two ") and " absent " in line for line in lines)
        assert any(line.startswith("timm:NAME") for line in lines)


@pytest.mark.parametrize(
    ("model", "module", "command"),
    [
        ("timm:resnet18", "timm", 'pip install "robust-verdicts[timm]"'),
        ("hf:somebody/something", "transformers", 'pip install "robust-verdicts[hf]"'),
        ("torchvision:resnet18", "torchvision", 'pip install "robust-verdicts[torchvision]"'),
        ("robustbench:Standard", "robustbench", 'pip install "robust-verdicts[robustbench]"'),
        ("onnx:net.onnx", "onnx2torch", 'pip install "robust-verdicts[onnx]"'),
    ],
)
def test_a_missing_library_is_one_line_with_the_command(
    model: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("net.onnx").write_bytes(b"anything")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not Path(place, module).is_dir()])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert refused(model).endswith(f"{module} is not installed: {command}")


@pytest.mark.parametrize("model", ["hf:", "timm:  ", "onnx:(mean=1)", "hf:vit(nothing=1)", "torchscript:a(mean=1)"])
def test_names_that_say_nothing_are_refused_in_one_line(model: str) -> None:
    refused(model)


def test_naming_a_model_of_one_source_imports_no_library_of_another() -> None:
    script()
    before = set(sys.modules)
    checkpoints.load("torchscript:net.pt")
    assert not {"timm", "transformers", "torchvision", "onnx2torch", "robustbench"} & (set(sys.modules) - before)


def test_prefixes_of_wrappers_are_taken_off_in_either_order() -> None:
    state = {"0.weight": torch.ones(2, 2)}
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        save_file({f"{prefix}{name}": value for name, value in state.items()}, "w.safetensors")
        assert list(checkpoints.read_tensors(Path("w.safetensors"))) == ["0.weight"]


def test_timm_gives_its_own_logits_of_weights_from_a_file() -> None:
    timm, x = library("timm"), pictures(side=64)
    model = timm.create_model("test_resnet", num_classes=5).eval()
    save_file(model.state_dict(), "w.safetensors")
    loaded = checkpoints.load("timm:test_resnet(weights='w.safetensors',num_classes=5)")
    config = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[name]).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(loaded.model(x), model((x - mean) / std))
    assert "has no model 'resnet_of_mine'" in refused("timm:resnet_of_mine")


def test_onnx_gives_the_logits_and_gradients_of_the_net_that_was_exported() -> None:
    library("onnx"), library("onnx2torch")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    x = torch.rand(4, 1, 8, 8)
    torch.onnx.export(net, (x,), "net.onnx", dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
    run = evaluate(checkpoints.load("onnx:net.onnx").model, x, net(x).argmax(1), "fgsm", eps=0.1)
    plain = evaluate(net, x, net(x).argmax(1), "fgsm", eps=0.1)
    assert run.verdicts["adv_pred"].tolist() == plain.verdicts["adv_pred"].tolist()
