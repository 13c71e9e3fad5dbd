"""Random models: draws averaged in the search, repeated by the judge, the same when made again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bench
from bench.core.types import NOT_FINITE, Checkpoint, ImageSet, UserError
from bench.data import loading
from bench.evaluation.judge import Repeated, judge, outcome
from bench.evaluation.request import Request, Subject
from bench.evaluation.run import prepare
from bench.ops.global_random import seeded
from bench.report import measures
from tests.support import defended, subjects


def _digits(count):
    data = loading.load("digits", "test")
    return data.images[:count], data.labels[:count]


def _broken(run, attack="worst"):
    table = run.table()
    return float(table[table["attack"] == attack]["robust_accuracy"].iloc[0])


class TestOutcome:
    @pytest.mark.parametrize(
        ("votes", "label", "settled"),
        [
            ([3] * 10, 3, 3),
            ([3] * 5 + [1] * 5, 3, 3),  # half is not more than half
            ([3] * 4 + [1] * 6, 3, 1),
            ([3] * 4 + [2, 2, 2, 1, 1, 1], 3, 1),  # equally often: the lowest
            ([3] * 4 + [1, 2, 2, 5, 6, 7], 3, 2),  # the label is named most often, but by fewer than half
            ([1] * 9 + [NOT_FINITE], 3, NOT_FINITE),
        ],
    )
    def test_more_than_half_decide(self, votes, label, settled):
        assert outcome(votes, label) == settled


class Coin(nn.Module):
    """Class 1 with a probability that the image's first pixel tells, else class 0."""

    def forward(self, x):
        heads = torch.rand(len(x)) < x[:, 0, 0, 0]
        return torch.stack([torch.zeros(len(x)), heads.float() * 2 - 1], 1)


class TestJudge:
    x = torch.tensor([0.02, 0.98, 0.9, 0.1, 0.5]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()

    def _repeated(self, draws=25):
        return Repeated(draws, 0, torch.zeros(5, dtype=torch.int64), torch.tensor([4, 7, 11, 2, 9]))

    def test_a_prediction_is_what_more_than_half_of_the_draws_name(self):
        predicted = self._repeated().predictions(Coin(), self.x)
        assert predicted[:4].tolist() == [0, 1, 1, 0]

    def test_an_image_is_judged_alike_in_any_company_and_order(self):
        repeated, order = self._repeated(), torch.tensor([4, 2, 0, 3, 1])
        whole = repeated.votes(Coin(), self.x)
        assert repeated.at(order).votes(Coin(), self.x[order]) == [whole[i] for i in order]
        assert repeated.at(slice(4, 5)).votes(Coin(), self.x[4:]) == whole[4:]
        assert 0 < sum(whole[4]) < 25

    def test_the_global_state_is_left_as_it_was(self):
        before = torch.get_rng_state()
        self._repeated().votes(Coin(), self.x)
        assert torch.equal(before, torch.get_rng_state())

    def test_broken_is_misclassified_in_more_than_half(self):
        x_adv = self.x.clone()
        x_adv[0] += 0.96
        x_adv[3] += 0.01
        judged = judge(Coin(), self.x, x_adv, torch.zeros(5, dtype=torch.int64), "linf", None, self._repeated())
        assert judged.adv_pred.tolist() == [1, 0, 0, 0, 0]


class TestRuns:
    def test_a_random_model_needs_a_word_from_the_user(self):
        x, y = _digits(8)
        with pytest.raises(UserError, match="deterministic"):
            bench.evaluate(defended.noisy(), x, y, attacks="pgd", eps=0.1)
        run = bench.evaluate(defended.noisy(), x, y, attacks="pgd(steps=2)", eps=0.1, eot=2)
        assert (run.record.eot, run.record.draws, run.record.forced) == (2, 10, ())
        with pytest.raises(UserError, match="--draws 2"):
            bench.evaluate(defended.noisy(), x, y, attacks="pgd", eps=0.1, draws=1)

    @pytest.mark.parametrize("attack", ["pgd(steps=5)", "apgd_ce(steps=5)", "ddn(steps=5)", "square(queries=10)"])
    def test_the_same_seed_gives_the_same_rows(self, attack):
        x, y = _digits(10)
        state = torch.get_rng_state()
        torch.manual_seed(1)
        first = bench.evaluate(defended.noisy(), x, y, attacks=attack, eps=0.15, eot=3, draws=4)
        torch.manual_seed(2)
        again = bench.evaluate(defended.noisy(), x, y, attacks=attack, eps=0.15, eot=3, draws=4)
        torch.set_rng_state(state)
        assert first.verdicts.equals(again.verdicts)
        assert first.record.draws == 4

    def test_passes_are_those_of_every_draw(self):
        x, y = _digits(6)
        run = bench.evaluate(defended.noisy(), x, y, attacks="pgd(steps=4)", eps=1e-4, eot=5)
        unbroken = run.verdicts[(run.verdicts["clean_pred"] == run.verdicts["label"]) & (run.verdicts["size"] == 0)]
        assert len(unbroken)
        assert (unbroken["forwards"] == 25).all()
        assert (unbroken["backwards"] == 20).all()

    def test_one_draw_claims_more_than_it_keeps_and_the_rows_tell(self):
        x, y = _digits(40)
        model = defended.RANDOM["dropout"]()
        once = bench.evaluate(model, x, y, attacks="pgd(steps=20)", eps=0.2, force=True)
        mean = bench.evaluate(model, x, y, attacks="pgd(steps=20)", eps=0.2, eot=10)
        claimed, confirmed = measures.claims(once)["pgd(steps=20)"]
        assert claimed >= 20
        assert confirmed <= claimed / 3
        claimed, confirmed = measures.claims(mean)["pgd(steps=20)"]
        assert confirmed >= 0.7 * claimed

    @pytest.mark.parametrize("name", defended.RANDOM)
    def test_averaging_breaks_what_one_draw_leaves(self, name):
        x, y = _digits(30)
        model = defended.RANDOM[name]()
        once = bench.evaluate(model, x, y, attacks="margin(steps=20)", eps=0.2, force=True)
        mean = bench.evaluate(model, x, y, attacks="margin(steps=20)", eps=0.2, eot=10)
        assert _broken(mean) <= _broken(once) - 0.2
        assert _broken(mean) <= 0.4

    def test_a_sound_model_is_met_as_it_is(self):
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 12)
        plain = bench.evaluate(model, x, y, attacks="pgd(steps=5),square(queries=20),fmn(steps=9)", eps=0.05)
        assert (plain.record.eot, plain.record.draws, plain.record.backward) == (1, 1, None)
        assert not {"eot", "draws", "backward", "backward_sha256"} & set(plain.record.to_dict())

    def test_it_is_the_model_itself_that_attacks_meet(self):
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 4)
        request = Request("m", "pgd", eps=[(0.1, "0.1")])
        data = ImageSet("tensors", "", x, y, torch.arange(4), "", ())
        subject = Subject(model, Checkpoint("m", "m"), "", data, lambda count: (x, y))
        with prepare(request, subject) as prepared:
            assert prepared.job.attacked is prepared.job.model
            assert prepared.job.repeated(data) is None


class Unseeded(nn.Module):
    """Weights drawn when it is made."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_construction_is_seeded():
    with seeded(None, 3, "model"):
        first = Unseeded()
    with seeded(None, 3, "model"):
        second = Unseeded()
    assert torch.equal(first.layer.weight, second.layer.weight)
