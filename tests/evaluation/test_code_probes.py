"""Probes of codes: intrinsic dimension, planes, surfaces."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA

from bench.core.registry import probes
from bench.core.types import CLEAN, UserError
from bench.evaluation.probes import intrinsic_dimension as dimension
from bench.evaluation.probes.plane import in_plane
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.ops import losses, rng
from tests.support import subjects
from tests.support.stored_runs import record


def probed(x: torch.Tensor, y: torch.Tensor | None = None) -> ProbedRun:
    count = len(x)
    y = torch.zeros(count, dtype=torch.int64) if y is None else y
    clean = Images(CLEAN, "", None, x, y, torch.arange(count), torch.zeros(count, dtype=torch.bool))
    return ProbedRun(clean, (), record(), 64)


class TestProbes:
    def test_intrinsic_dimension_is_the_printed_sum(self) -> None:
        points = np.random.default_rng(0).normal(size=(40, 5))
        apart = np.sort(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)[:, 1:]
        slow = []
        for k in range(6, 13):
            inverses = [sum(np.log(row[k - 1] / row[j]) for j in range(k - 1)) / (k - 2) for row in apart]
            slow.append(1 / np.mean(inverses))
        images = torch.from_numpy(points).view(40, 1, 1, 5)
        found = probes["intrinsic_dimension"]()(None, probed(images)).iloc[0]
        assert found["dimension"] == pytest.approx(np.mean(slow)) and found["low"] == pytest.approx(min(slow))
        assert found["n"] == 40 and found["size"] == 5

    @pytest.mark.parametrize("true", [2, 5])
    def test_intrinsic_dimension_of_a_flat_sheet(self, true: int) -> None:
        codes = rng.uniform(rng.keys(0, torch.arange(1500), "sheet"), (true,))
        axes, _ = torch.linalg.qr(torch.randn(30, true))
        found = probes["intrinsic_dimension"]()(None, probed((codes @ axes.T).view(-1, 1, 5, 6))).iloc[0]
        assert found["dimension_k1"] == pytest.approx(true, rel=0.1) and found["dimension"] < found["dimension_k1"]
        assert found["n"] == 1000

    def test_equal_images_count_once_and_too_few_are_one_line(self) -> None:
        images = torch.rand(20, 1, 2, 2)
        once = probes["intrinsic_dimension"]()(None, probed(images))
        twice = probes["intrinsic_dimension"]()(None, probed(torch.cat([images, images])))
        assert once["dimension"].tolist() == pytest.approx(twice["dimension"].tolist()) and once["n"].tolist() == [20]
        with pytest.raises(UserError, match="more than 12 different images, and there are 1"):
            probes["intrinsic_dimension"]()(None, probed(torch.zeros(30, 1, 2, 2)))
        with pytest.raises(UserError, match="3 <= k1 <= k2"):
            probes["intrinsic_dimension"](k1=2)(None, probed(images))

    def test_nearest_distances_do_not_depend_on_the_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        points = torch.rand(30, 4)
        whole = dimension.nearest_distances(points, 7)
        monkeypatch.setattr(dimension, "_SLICE", 8)
        assert torch.equal(dimension.nearest_distances(points, 7), whole)

    def test_rademacher_surface_of_a_linear_model(self) -> None:
        model = subjects.linear((1, 6, 6), 3)
        x, y = subjects.images(model, 4)
        found = probes["rademacher_surface"](points=5, images=2)(model, probed(x, y))
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
        found = probes["plane"](limit=12)(model, probed(x, y))
        assert isinstance(found, pd.DataFrame) and len(found) == 12 and set(found["size"]) == {8}
