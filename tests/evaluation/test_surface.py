"""The probe that draws loss surfaces."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from bench.core.registry import probes
from bench.core.types import CLEAN, UserError
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.evaluation.probes.surface import orthogonal_signs
from bench.ops import rng
from tests.support import subjects
from tests.support.adr import drawn
from tests.support.stored_runs import entry, record


class TestSurface:
    def test_signs_are_orthogonal_and_drawn_by_key(self) -> None:
        slope = drawn(5, 9, "slope")
        slope[0, :4] = 0
        slope[1] = 0
        keys = rng.keys(0, torch.arange(5), "surface")
        found = orthogonal_signs(slope, keys)
        assert (found * slope.sign()).sum(1).abs().max() == 0
        assert (found == 0).sum(1).tolist() == [1, 0, 1, 1, 1] and set(found.unique().tolist()) == {-1, 0, 1}
        assert torch.equal(orthogonal_signs(slope[2:3], keys[2:3]), found[2:3])
        assert len(found[2:].unique(dim=0)) == 3

    def test_of_a_fooled_and_an_unfooled_image(self) -> None:
        model = subjects.frozen(subjects.Centred())
        found = probes["surface"](points=5)(model, self._probed(model, 0.02))
        groups = found.groupby(["example", "space"])
        assert sorted(groups.groups) == [
            ("fooled", "input"),
            ("fooled", "latent"),
            ("unfooled", "input"),
            ("unfooled", "latent"),
        ]
        assert (groups.size() == 25).all() and found["along"].abs().max() == pytest.approx(0.02)
        middle = found[(found["along"] == 0) & (found["across"] == 0)].set_index("example")
        assert (middle.loc["fooled", "prediction"] != middle.loc["fooled", "label"]).all()
        assert (middle.loc["unfooled", "prediction"] == middle.loc["unfooled", "label"]).all()
        # Both spaces meet in their middle, and along the gradient's sign the loss rises.
        assert middle.groupby("example")["loss"].agg(lambda loss: loss.max() - loss.min()).max() < 1e-4
        for _, one in groups:
            line = one[one["across"] == 0].sort_values("along")["loss"].tolist()
            assert line[3] > line[2] > line[1]

    def test_kinds_that_no_image_is_of_are_left_out(self) -> None:
        model = subjects.frozen(subjects.Centred())
        found = probes["surface"](points=3)(model, self._probed(model, 1e-6))
        assert set(found["example"]) == {"unfooled"}
        shown = self._probed(model, 0.02)
        wrong = replace(shown.clean, y=(shown.clean.y + 1) % 5)
        assert probes["surface"](points=3)(model, replace(shown, clean=wrong)).empty
        with pytest.raises(UserError, match="needs the eps"):
            probes["surface"]()(model, replace(shown, record=replace(shown.record, eps=None)))

    @staticmethod
    def _probed(model: nn.Module, eps: float) -> ProbedRun:
        x, y = subjects.images(model, 60)
        clean = Images(CLEAN, "", None, x, y, torch.arange(60), torch.zeros(60, dtype=torch.bool))
        pgd = entry("pgd", steps=10, step_size=None, random_start=True)
        return ProbedRun(clean, (), record(eps=eps, attacks=(pgd,)), 16)


def test_the_surface_of_a_stored_run(bench) -> None:
    assert bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "40", "--save-adversarial", "--out", "r").code == 0
    assert bench("probe", "r", "--probes", "surface(points=5)").code == 0
    found = pd.read_csv("r/probes/surface.csv")
    assert set(found["space"]) == {"input", "latent"} and found["loss"].notna().all()
