"""Models of every ordinary form: each gives the verdicts of the plain net inside it, or one named refusal."""

from __future__ import annotations

import copy
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import bench
from bench.core.types import UserError
from bench.models.adapted import Adapted, adapted
from bench.ops import losses, passes
from tests.support import subjects

SHAPE, COUNT = (1, 6, 6), 24
ATTACKS = "pgd(steps=5),square(queries=30)"


class Net(nn.Module):
    """A small net with a max-pool, for which weights are laid out otherwise while it is attacked."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(54, 4)
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=draw) / max(weight[0].numel(), 1) ** 0.5

    def features(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv(x).relu(), 2).flatten(1)

    def classify(self, z: Tensor) -> Tensor:
        return self.head(z) * 4

    def forward(self, x: Tensor) -> Any:
        return self.classify(self.features(x))


@dataclass
class Answer:
    extra: Tensor
    scores: Tensor


Named = namedtuple("Named", ["extra", "logits"])


class Wrapped(Net):
    """A net whose answer or input passes through a function."""

    def __init__(self, after: Any = None, before: Any = None) -> None:
        super().__init__()
        self.after, self.before = after, before

    def forward(self, x: Tensor) -> Any:
        x = x if self.before is None else self.before(x)
        logits = super().forward(x)
        return logits if self.after is None else self.after(logits, x)


def images(count: int = COUNT) -> tuple[Tensor, Tensor]:
    x, _ = subjects.images(Net(), count, SHAPE)
    return x, Net()(x).argmax(1)


def rows(run: Any) -> list[Any]:
    return run.verdicts.drop(columns=["forwards", "backwards"]).to_numpy().tolist()


def evaluated(model: nn.Module, attacks: str = ATTACKS, **more: Any) -> Any:
    x, y = images()
    return bench.evaluate(model, x, y, attacks, eps=0.3, **more)


OUTPUTS = {
    "tuple": lambda z, x: (z, x),
    "list": lambda z, x: [x.flatten(1).long(), z],
    "dict": lambda z, x: {"features": x, "logits": z},
    "dict in order": lambda z, x: {"image": x, "answer": z, "other": z + 1},
    "dataclass": lambda z, x: Answer(x, z),
    "named tuple": lambda z, x: Named(z + 7, z),
    "nested": lambda z, x: {"out": {"logits": z}, "loss": z.mean()},
    "logits after others": lambda z, x: {"embedding": z * 2, "logits": z},
}


@pytest.mark.parametrize("form", OUTPUTS)
def test_logits_are_found_in_what_a_model_returns(form: str) -> None:
    run = evaluated(Wrapped(OUTPUTS[form]))
    assert rows(run) == rows(evaluated(Net())) and run.verdicts["broken"].any()
    assert run.record.notes == ("output",)


def test_an_answer_without_logits_is_refused_by_its_shape() -> None:
    for after, seen in (
        (lambda z, x: {"a": x}, "dict"),
        (lambda z, x: z.argmax(1), r"\(24,\)"),
        (lambda z, x: None, "None"),
    ):
        with pytest.raises(UserError, match=f"check 'shape' failed: the model returns {seen}.*logits"):
            evaluated(Wrapped(after))


class Squeezing(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, None, None].squeeze()


def scripted() -> nn.Module:
    return torch.jit.script(Scripted())


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        net = Net()
        self.conv, self.head = net.conv, net.head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.max_pool2d(self.conv(x).relu(), 2).flatten(1)) * 4


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return Net()


class ExtraState(Net):
    def get_extra_state(self) -> Any:
        return {"note": "any object", "step": 3, "what": object()}

    def set_extra_state(self, state: Any) -> None:
        pass


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = Net(), nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net.features(x)) * 4


def lazy_that_has_run() -> nn.Module:
    model = Lazy()
    model(images()[0])
    model.head.load_state_dict(model.net.head.state_dict())
    return model


FORMS = {
    "squeezes": Squeezing,
    "script": scripted,
    "frozen script": lambda: torch.jit.freeze(torch.jit.script(Scripted().eval())),
    "traced": lambda: torch.jit.trace(Scripted().eval(), images()[0]),
    "inference weights": made_in_inference_mode,
    "extra state": ExtraState,
    "lazy, run once": lazy_that_has_run,
    "data parallel": lambda: nn.DataParallel(Net()),
    "no weight wants a gradient": lambda: Net().requires_grad_(False),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_module_of_any_kind_gives_the_plain_nets_verdicts(form: str) -> None:
    model = FORMS[form]()
    wanted = [weight.requires_grad for weight in model.parameters()]
    assert rows(evaluated(model)) == rows(evaluated(Net()))
    assert [weight.requires_grad for weight in model.parameters()] == wanted


def test_lazy_modules_that_never_ran_are_refused() -> None:
    with pytest.raises(UserError, match="has no shape yet: pass one batch"):
        evaluated(Lazy())


def test_batch_statistics_are_named() -> None:
    class Statistics(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.batch_norm(x, None, None, training=True))

    with pytest.raises(UserError, match="check 'batch' failed"):
        evaluated(Statistics())


class TestQuantised:
    @pytest.fixture
    def model(self) -> nn.Module:
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 4))
        torch.manual_seed(1)
        return torch.ao.quantization.quantize_dynamic(net.eval(), {nn.Linear}, dtype=torch.qint8)

    def labels(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        x, _ = images()
        return x, model(x).argmax(1)

    def test_runs_under_gradient_free_attacks(self, model: nn.Module) -> None:
        x, y = self.labels(model)
        run = bench.evaluate(model, x, y, "square(queries=60),hsj(steps=1,samples=5),noise", eps=0.3)
        assert run.verdicts["broken"].any() and (run.verdicts["adv_pred"] >= 0).all()
        assert run.record.forced == ("gradient",) and "batch" in run.record.notes

    def test_gradient_attacks_are_refused_or_flagged_alone(self, model: nn.Module) -> None:
        x, y = self.labels(model)
        with pytest.raises(UserError, match="check 'gradient' failed"):
            bench.evaluate(model, x, y, "pgd,square", eps=0.3)
        run = bench.evaluate(model, x, y, "pgd,square(queries=60)", eps=0.3, force=True)
        pgd, square = (run.verdicts[run.verdicts["attack"].str.startswith(name)] for name in ("pgd", "square"))
        assert (pgd["adv_pred"] == -1).all() and not pgd["broken"].any() and square["broken"].any()
        assert list(run.record.failed) == ["pgd"] and "cut off" in run.record.failed["pgd"]
        assert "pgd could not be made: no gradient" in str(run)


EVERY = (
    "pgd(steps=3),fgsm,bim(steps=3),mim(steps=3),apgd_ce(steps=4),apgd_dlr(steps=4),apgd_t(steps=4,targets=2),"
    "square(queries=20),spsa(steps=2,samples=4),noise(draws=2),cw(searches=2,steps=10),ddn(steps=6),fmn(steps=6),"
    "deepfool(steps=5),alma(steps=8),pdgd(steps=8),pdpgd(steps=8),fab(steps=3),fab_t(steps=3,targets=2),"
    "hsj(steps=1,samples=4),multi_targeted(steps=2),adaptive(steps=3),autoattack-custom(steps=3,queries=9,targets=2)"
)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("what", ["logits", "weights"])
def test_every_attack_runs_on_every_precision(dtype: torch.dtype, norm: str, what: str) -> None:
    class Cast(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).to(dtype)

    model = Cast() if what == "logits" else Net().to(dtype)
    x, y = images(16)
    run = bench.evaluate(model, x, y, EVERY, norm=norm, eps=0.1 if norm == "linf" else 0.5)
    known = run.verdicts[run.verdicts["clean_pred"] == run.verdicts["label"]]
    assert (known["adv_pred"] >= 0).all() and known["lawful"].all() and not run.record.failed
    assert run.record.notes == ("dtype",)
    plain = bench.evaluate(Net(), x, y, EVERY, norm=norm, eps=0.1 if norm == "linf" else 0.5)
    apart = abs(run.table()["robust_accuracy"] - plain.table()["robust_accuracy"])
    assert (apart <= (1e-9 if dtype == torch.float64 else 0.15)).all()


def test_gradients_of_half_models_are_float32() -> None:
    model = adapted(Net().half(), images()[0])
    _, logits, gradient = passes.input_gradient(losses.ce, model, *images())
    assert logits.dtype == gradient.dtype == torch.float32 and gradient.abs().amax() > 0


class TestThroughWrappers:
    def wrapped(self, kind: str) -> nn.Module:
        class Standardise(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x - 0.4) / 0.3

        class Own(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = subjects.Centred()

            def forward(self, x: Tensor) -> Tensor:
                return self.net((x - 0.4) / 0.3)

        if kind == "sequential":
            return nn.Sequential(Standardise(), subjects.Centred())
        if kind == "nested":
            return nn.DataParallel(nn.Sequential(Standardise(), nn.Sequential(nn.Identity(), subjects.Centred())))
        return Own()

    @pytest.mark.parametrize("kind", ["sequential", "nested", "own"])
    def test_features_see_what_the_wrapper_does_first(self, kind: str) -> None:
        x, inner = images()[0], subjects.Centred()
        model = adapted(self.wrapped(kind), x)
        for call, ours in ((model.features, inner.features), (model, inner)):
            assert torch.equal(passes.reference_outputs(call, x), passes.reference_outputs(ours, (x - 0.4) / 0.3))
        assert torch.equal(model.class_centers(), inner.centers)

    def test_adaptive_means_the_same_attacks_as_on_the_net_itself(self) -> None:
        x, _ = images()
        y = self.wrapped("own")(x).argmax(1)
        for kind in ("sequential", "nested", "own"):
            run = bench.evaluate(self.wrapped(kind), x, y, "adaptive(steps=2)")
            direct = bench.evaluate(subjects.Centred(), x, subjects.Centred()(x).argmax(1), "adaptive(steps=2)")
            assert run.record.adaptive == direct.record.adaptive and len(run.record.adaptive) == 10
            assert not run.record.adaptive_missing

    def test_a_wrapper_that_changes_logits_hides_the_features_and_that_is_said(self) -> None:
        class Squashed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = subjects.Centred()

            def forward(self, x: Tensor) -> Tensor:
                return self.net(x).sigmoid()

        x, _ = images()
        run = bench.evaluate(Squashed(), x, Squashed()(x).argmax(1), "adaptive(steps=2)")
        assert set(run.record.adaptive_missing) == {"latent", "mat", "ftc", "so", "bibo", "cosine_margin", "mmc"}
        assert "adaptive leaves out" in str(run) and "class_centers" in str(run)


def test_a_plain_model_is_used_as_it_is() -> None:
    for model in (Net(), subjects.Centred(), subjects.linear(SHAPE, 3)):
        assert adapted(model, images()[0]) is model


def test_an_adapted_model_can_be_copied_to_search_on() -> None:
    model = Wrapped(OUTPUTS["dict"])
    run = evaluated(model, search_dtype="bf16")
    assert run.verdicts["broken"].any() and isinstance(copy.deepcopy(adapted(model, images()[0])), Adapted)


class TestNoGradient:
    def said(self, model: nn.Module) -> str:
        with pytest.raises(UserError) as caught:
            evaluated(model)
        return str(caught.value)

    def test_says_why(self) -> None:
        class Inference(Net):
            def forward(self, x: Tensor) -> Tensor:
                with torch.inference_mode():
                    x = x * 2
                return super().forward(x)

        class Reentrant(Net):
            def forward(self, x: Tensor) -> Tensor:
                return checkpoint(super().forward, x, use_reentrant=True)

        class CutOff(Net):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x.detach())

        assert "inference mode" in self.said(Inference()) and "gradient-free" not in self.said(Inference())
        assert "use_reentrant=False" in self.said(Reentrant())
        assert "use gradient-free attacks" in self.said(CutOff())

    def test_a_gradient_that_is_not_finite_is_no_fault_of_the_logits(self) -> None:
        class Kink(Net):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) + (x - x).square().sum((1, 2, 3)).sqrt()[:, None]

        said = self.said(Kink())
        assert "check 'finite gradient' failed" in said and "the logits are finite" in said
        run = evaluated(Kink(), "square(queries=30)")
        assert (run.verdicts["adv_pred"] >= 0).all() and run.record.forced == ("finite gradient",)
