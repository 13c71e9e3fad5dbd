"""Where PGD ends, fooled or not: a stored run keeps the clean image in place of an attack that failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from bench.core import verdicts
from bench.core.types import Classifier, UserError
from bench.evaluation.judge import predictions
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.evaluation.probes.run_pgd import RunPGD
from bench.ops import ascent, losses, norms, passes, rng


def last_iterates(model: Classifier, run: ProbedRun) -> Iterator[Images]:
    """The last iterates of the run's first untargeted PGD, all its steps taken; the default one if it had none.

    Of the clean images that are right, a batch at a time; `broken` says which are misclassified.
    """
    if run.record.eps is None:
        raise UserError("the last iterates of PGD need the eps of a run, and this one has none or several")
    pgd = RunPGD.of(run.record, run.record.eps)
    for clean in run.batches(run.clean):
        right = clean.select(predictions(passes.reference_outputs(model, clean.x)) == clean.y)
        x = _climbed(model, right, pgd)
        fooled = verdicts.misclassified(right.y, predictions(passes.reference_outputs(model, x)))
        yield Images("pgd", pgd.norm, pgd.eps, x, right.y, right.indices, fooled)


def _climbed(model: Classifier, images: Images, pgd: RunPGD) -> Tensor:
    budget = pgd.budget(images)
    ball = norms.Ball.around(images.x, budget)
    start = ball.sample(rng.fold(pgd.keys(images), 0)) if pgd.random_start else images.x
    return ascent.ascend(model, losses.ce, ball, images.y, start, replace(pgd.schedule(budget), stop=False)).x_adv
