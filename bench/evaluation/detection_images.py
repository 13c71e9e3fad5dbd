"""What a detector meets: clean images, noisy ones, attacked ones, and some attacked with the detector in mind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.types import CLEAN, Budget
from bench.evaluation import judge, schedule
from bench.evaluation.detectors.detector import Fitted, TrainingImages
from bench.evaluation.detectors.joint_attack import JointAttack
from bench.evaluation.plan import Planned
from bench.ops import rng
from bench.store import detections

SHARES = {"fit": 0.4, "calibration": 0.2}
"""How many of the images a detector is fitted and calibrated on; it is tested on the others."""


def parts(indices: Tensor, seed: int) -> dict[str, Tensor]:
    """Places (n,) of images in each part, drawn by key: each image is in one, and none in two."""
    order = rng.uniform(rng.keys(seed, indices, "detect"), ()).argsort(stable=True)
    first = round(SHARES["fit"] * len(order))
    second = first + round(SHARES["calibration"] * len(order))
    cuts = (order[:first], order[first:second], order[second:])
    return {name: places.sort().values for name, places in zip(detections.PARTS, cuts, strict=True)}


@dataclass(frozen=True)
class Examples:
    """Images x (n, C, H, W) of one kind, and a table with a row an image: `detections.COLUMNS` but for the score."""

    rows: pd.DataFrame
    x: Tensor

    def where(self, keep: pd.Series[bool]) -> Examples:
        """Some of them."""
        return Examples(self.rows[keep].reset_index(drop=True), self.x[torch.from_numpy(keep.to_numpy(bool).copy())])

    @property
    def right(self) -> Examples:
        """Those that are right when clean."""
        return self.where(self.rows["label"] == self.rows["clean_pred"])

    @property
    def broken(self) -> Examples:
        """Those that an attack broke."""
        return self.where(self.rows["broken"].astype(bool))

    def mean_distance(self, clean: Examples) -> float:
        """The mean l2 distance to the clean images of the same indices; NaN without any."""
        places = {index: place for place, index in enumerate(clean.rows["index"])}
        theirs = clean.x[[places[index] for index in self.rows["index"]]]
        return float((self.x.double() - theirs.double()).flatten(1).norm(dim=1).mean())


@dataclass(frozen=True)
class DetectionImages:
    """A prepared run's model and images, cut into parts."""

    job: schedule.Job
    training: TrainingImages
    places: Mapping[str, Tensor]

    def part(self, name: str) -> schedule.Job:
        """The run cut down to one part."""
        places = self.places[name]
        return replace(self.job, data=self.job.data.select(places), clean_pred=self.job.clean_pred[places], keep=True)

    def clean(self, part: str) -> Examples:
        """The images themselves."""
        job = self.part(part)
        return Examples(_rows(part, CLEAN, job, job.clean_pred), job.data.images[:])

    def noisy(self, part: str, distance: float) -> Examples:
        """Right images with Gaussian noise by key, as far away in l2 as given but for the clipping to [0, 1]."""
        job = self.part(part)
        images = job.data.images[:]
        draws = rng.normal(rng.keys(job.seed, job.data.indices, "detect noise"), images.shape[1:])
        x = (images + distance / images.shape[1:].numel() ** 0.5 * draws).clamp(0, 1)
        predicted = judge.predictions(self.training.batched(job.model, x)).cpu()
        return Examples(_rows(part, detections.NOISE, job, predicted), x).right

    def attacked(self, part: str, planned: Planned) -> Examples:
        """Right images under an attack; what it failed on comes back clean."""
        job = self.part(part)
        results = [schedule.perform(job, chunk) for chunk in schedule.chunks(job, [planned])]
        table = pd.DataFrame([vars(row) for result in results for row in result.verdicts])
        x = torch.cat([result.x_adv for result in results if result.x_adv is not None])
        # The stages of an ensemble have rows of their own.
        return Examples(table.assign(part=part), x).where(table["attack"] == planned.label).right

    def joint(self, fitted: Fitted, level: float, attack: JointAttack) -> Examples:
        """Right test images under the attack on classifier and detector at once, judged as any other."""
        whole = self.part("test")
        right = (whole.clean_pred == whole.data.labels).nonzero().flatten()
        none = self._among(whole, right[:0])
        tables, images = [_rows("test", detections.JOINT, none, none.clean_pred)], [none.data.images[:]]
        for places in torch.split(right, whole.batch_size):
            job = self._among(whole, places)
            x, y, threat = job.data.images[:].to(job.device), job.data.labels.to(job.device), job.threats[0]
            eps = None if threat.eps is None else x.new_full((len(x),), threat.eps, dtype=torch.float64)
            keys = rng.keys(job.seed, job.data.indices, detections.JOINT).to(job.device)
            x_adv = attack(fitted, level, x, y, Budget(threat.norm, eps), keys)
            judged = judge.judge(job.model, x, x_adv, job.clean_pred.to(job.device), threat.norm, eps)
            broken = verdicts.broken(y, y, judged.adv_pred, judged.lawful)
            rows = _rows("test", detections.JOINT, job, judged.adv_pred)
            judgement = {"size": judged.size.tolist(), "lawful": judged.lawful.tolist(), "broken": broken.tolist()}
            tables.append(rows.assign(norm=threat.norm, eps=threat.eps, **judgement))
            images.append(x_adv.cpu())
        return Examples(pd.concat(tables[len(tables) > 1 :], ignore_index=True), torch.cat(images))

    def _among(self, job: schedule.Job, places: Tensor) -> schedule.Job:
        return replace(job, data=job.data.select(places), clean_pred=job.clean_pred[places])


def _rows(part: str, attack: str, job: schedule.Job, predicted: Tensor) -> pd.DataFrame:
    data = job.data
    cells = {"index": data.indices, "label": data.labels, "clean_pred": job.clean_pred, "adv_pred": predicted}
    numbers = {name: values.tolist() for name, values in cells.items()}
    rest = {"norm": "", "eps": None, "size": 0.0, "lawful": True, "broken": False}
    return pd.DataFrame({"part": part, "attack": attack, **numbers, **rest})
