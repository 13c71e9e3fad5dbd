"""Probes: what they say of models whose answer is known, and what they leave on the disk."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.core import from_specs, registry, specs
from bench.core.types import CLEAN, UserError
from bench.evaluation.probes.last_iterates import last_iterates
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.store import probes, runs
from tests.support import subjects
from tests.support.signing import sign_record
from tests.support.stored_runs import record

ALL = "match_rate,cosine,embedding,gradients,rescaled"
RECORD = record(eps=0.08)


def probed(model: torch.nn.Module, count: int = 60) -> ProbedRun:
    """Images of a model that is right on all of them, and as many that an attack changed: every third is broken."""
    x, y = subjects.images(model, count)
    indices = torch.arange(count)
    broken = indices % 3 == 0
    clean = Images(CLEAN, "", None, x, y, indices, torch.zeros(count, dtype=torch.bool))
    attacked = Images("pgd", "linf", 0.08, x.flip(0), y, indices, broken)
    return ProbedRun(clean, (attacked,), RECORD, 16)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return subjects.frozen(subjects.Centred())


class Blocks(torch.nn.Module):
    """Features are the images' first D pixels, logits the features: clusters are the images' own."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :3]

    def classify(self, z: torch.Tensor) -> torch.Tensor:
        return z

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(x))


def test_match_rate_of_clusters_that_are_classes() -> None:
    blocks = Blocks()
    y = torch.arange(30) % 3
    x = torch.zeros(30, 1, 2, 2)
    x.view(30, 4)[torch.arange(30), y] = torch.linspace(0.8, 1, 30)
    # Two adversarial examples: one that lies among class 1 and is taken for it, one between the groups.
    wrong = torch.tensor([[0.0, 0.9, 0.0, 0.0], [0.55, 0.0, 0.56, 0.0]]).view(2, 1, 2, 2)
    clean = Images(CLEAN, "", None, x, y, torch.arange(30), torch.zeros(30, dtype=torch.bool))
    attacked = Images("pgd", "linf", 0.1, wrong, y[:2], torch.arange(2), torch.tensor([True, False]))
    found = registry.probes["match_rate"](clusters=(10,))(blocks, ProbedRun(clean, (attacked,), RECORD, 8))
    rows = found.set_index(["attack", "points", "clusters"])
    assert rows.loc[(CLEAN, "all", 3), "match_rate"] == 1 and rows.loc[(CLEAN, "all", 3), "n"] == 30
    assert rows.loc[("pgd", "broken", 3), ["n", "matched"]].tolist() == [1, 1]
    assert set(found["clusters"]) == {3, 10} and set(found["classes"]) == {3}


def test_cosine_is_to_the_predicted_center(model) -> None:
    shown = probed(model)
    found = registry.probes["cosine"]()(model, shown)
    assert len(found) == 120 and found["broken"].sum() == 20
    row = found.iloc[7]
    z, center = model.features(shown.clean.x[7:8])[0], model.class_centers()[row["prediction"]]
    assert row["cosine"] == pytest.approx(float(torch.cosine_similarity(z, center, dim=0)), abs=1e-6)


def test_gradients_that_underflow_are_exactly_zero(model) -> None:
    steep = subjects.frozen(subjects.Centred())
    steep.centers *= 1e5
    shares = [registry.probes["gradients"]()(one, probed(one))["zero"].mean() for one in (model, steep)]
    assert shares[0] == 0 and shares[1] > 0.9
    plain = registry.probes["gradients"]()(subjects.linear((1, 6, 6), 4), probed(subjects.linear((1, 6, 6), 4)))
    assert plain["feature_norm"].isna().all() and (plain["linf"] <= plain["l2"]).all()


def test_rescaling_undoes_saturation(model) -> None:
    steep = subjects.frozen(subjects.Centred())
    steep.centers *= 1e5
    found = registry.probes["rescaled"](temperatures=(1.0, 1e5))(steep, probed(steep))
    robust = dict(zip(found["temperature"], found["robust"], strict=True))
    plain = registry.probes["rescaled"](temperatures=(1.0,))(model, probed(model)).iloc[0]
    assert robust["1"] > robust["100000"] == plain["robust"]
    with pytest.raises(UserError, match="needs the eps"):
        registry.probes["rescaled"]()(model, ProbedRun(probed(model).clean, (), record(), 8))


class _NanWhenJudged(torch.nn.Module):
    """Right on grey images and wrong on others, for which it answers NaN where no gradient is asked for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        away = (x - 0.5).abs().flatten(1).amax(1)
        logits = torch.stack([-away, away - 1e-3], 1)
        return logits if torch.is_grad_enabled() else torch.where(away[:, None] > 0, torch.nan, logits)


def test_an_answer_that_is_not_finite_breaks_no_image() -> None:
    x, y = torch.full((8, 1, 2, 2), 0.5), torch.zeros(8, dtype=torch.int64)
    indices, nothing = torch.arange(8), torch.zeros(8, dtype=torch.bool)
    shown = ProbedRun(Images(CLEAN, "", None, x, y, indices, nothing), (), RECORD, 8)
    (row,) = registry.probes["rescaled"](temperatures=(1.0,))(_NanWhenJudged(), shown).to_dict("records")
    assert (row["right"], row["robust"], row["robust_accuracy"]) == (8, 8, 1.0)
    (images,) = last_iterates(_NanWhenJudged(), shown)
    assert len(images) == 8 and not images.broken.any() and bool((images.x != x).any())


def test_an_embedding_is_the_same_twice_and_drawn_by_key(model) -> None:
    probe = registry.probes["embedding"](clean=40, adversarial=5, perplexity=8.0)
    found = probe(model, probed(model))
    pd.testing.assert_frame_equal(found, probe(model, probed(model)))
    assert found["attack"].tolist() == [CLEAN] * 40 + ["pgd"] * 5
    assert found["entropy"].between(0, 1.7).all() and (found[found["attack"] == "pgd"]["index"] % 3 == 0).all()
    both = registry.probes["embedding"](clean=40, adversarial=0, negative=7, perplexity=8.0)(model, probed(model))
    in_vain = both[both["attack"] == "pgd"]
    assert len(in_vain) == 7 and (in_vain["prediction"] == in_vain["label"]).all()
    with pytest.raises(UserError, match="more than 90 points"):
        registry.probes["embedding"](perplexity=90.0)(model, probed(model))
    with pytest.raises(UserError, match="did you mean pgd"):
        registry.probes["embedding"](attack="pdg")(model, probed(model))


@pytest.mark.parametrize("name", list(registry.probes))
def test_every_probe_is_documented_and_leaves_the_model_alone(name, model) -> None:
    kind = registry.probes[name]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    quick = kind(perplexity=8.0) if name == "embedding" else kind()
    assert len(quick(model, probed(model))) and kind.__doc__
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_limits_keep_what_was_made_of_the_first_images(model) -> None:
    few = probed(model).first(10)
    assert len(few.clean) == 10 and few.attacked[0].indices.tolist() == list(range(10))


def test_a_run_is_probed_from_its_files(bench) -> None:
    made = bench("run", "--model", "tiny", "--attacks", "pgd,ddn", "-n", "60", "--save-adversarial", "--out", "r")
    assert made.code == 0
    said = bench("probe", "r", "--probes", "match_rate(limit=50),embedding,gradients,rescaled")
    assert said.code == 0 and said.out.splitlines()[0] == "r/probes/match_rate.csv"
    run = runs.load("r")
    about = json.loads(Path("r/probes/probes.json").read_text())
    assert about["match_rate"]["fields"]["limit"] == 50
    assert about["rescaled"]["weights_sha256"] == run.record.weights_sha256
    rescaled = probes.read(run, "rescaled")
    robust = pd.read_csv("r/table.csv").set_index("attack").loc["pgd", "robust_accuracy"]
    # Temperature 1 is the run's own PGD, image by image.
    assert rescaled is not None
    assert rescaled.set_index("temperature").loc["1", "robust_accuracy"] == pytest.approx(robust, abs=1e-6)
    first = Path("r/probes/gradients.csv").read_bytes()
    assert bench("probe", "r", "--probes", "gradients").code == 0
    assert Path("r/probes/gradients.csv").read_bytes() == first
    assert set(probes.record(Path("r"))) == {"match_rate", "embedding", "gradients", "rescaled"}


def test_a_probe_may_be_gzipped_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    run = runs.Run(runs.frame([]), record(), tmp_path)
    assert probes.read(run, "cosine") is None
    table = pd.DataFrame({"attack": [CLEAN], "cosine": [1 / 3]})
    path = probes.write(tmp_path, "cosine", table, {"fields": {}})
    path.with_name("cosine.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    found = probes.read(run, "cosine")
    assert found is not None and found["cosine"].tolist() == [0.333333]
    path.with_name("cosine.csv.gz").write_bytes(b"no")
    with pytest.raises(UserError, match=r"cosine\.csv\.gz"):
        probes.read(run, "cosine")
    (path.parent / "probes.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        probes.record(tmp_path)


class TestFaultsAreOneLine:
    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("cosin", "unknown probe 'cosin': did you mean cosine?"),
            ("match_rate(limits=3)", "did you mean limit"),
            ("match_rate(limit='a')", "limit cannot be 'a'"),
            ("match_rate(limit=0)", "limit cannot be 0"),
            ("match_rate(limit=True)", "limit cannot be True"),
            ("match_rate(clusters=[10,'a'])", "clusters cannot be"),
            ("cosine,cosine", "named twice"),
            ("cosine,", "is not name"),
            ("", "--probes is empty"),
        ],
    )
    def test_names_and_fields(self, written: str, said: str) -> None:
        with pytest.raises(UserError, match="probe") as fault:
            for spec in specs.parse_specs(written, "probe"):
                from_specs.from_spec("probe", registry.probes, spec)
        assert said in str(fault.value) and "\n" not in str(fault.value)

    def test_needs_and_images(self, bench) -> None:
        bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "20", "--out", "bare")
        said = bench("probe", "bare", "--probes", "gradients")
        assert said.code == 2 and "--save-adversarial" in said.err
        bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "20", "--save-adversarial", "--out", "kept")
        said = bench("probe", "kept", "--probes", "cosine")
        assert said.code == 2 and "needs the model to have class_centers" in said.err
        record = json.loads(Path("kept/run.json").read_text()) | {"weights_sha256": "0"}
        Path("kept/run.json").write_text(json.dumps(record))
        sign_record("kept")
        said = bench("probe", "kept", "--probes", "gradients")
        assert said.code == 2 and "other weights" in said.err
