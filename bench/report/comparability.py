"""Whether two runs may be compared image by image."""

from __future__ import annotations

from bench.core.types import UserError
from bench.store import behaviour
from bench.store.runs import Run


def refuse_other_images(a: Run, b: Run) -> None:
    """Refuse runs that share no image, or whose images or labels differ.

    Raises:
        UserError: they do; the text names the key of the record, or the image.
    """
    for key in ("data", "split", "data_sha256", "image"):
        theirs = [getattr(run.record, key) for run in (a, b)]
        if theirs[0] != theirs[1] and None not in theirs:
            raise UserError(f"the runs are on different images: {key} {theirs[0]!r} and {theirs[1]!r}")
    labels = [run.verdicts.drop_duplicates("index").set_index("index")["label"] for run in (a, b)]
    left, right = labels[0].align(labels[1], join="inner")
    if not len(left):
        raise UserError("the runs are on different images: they share none")
    if (left != right).any():
        raise UserError(f"the runs are on different images: {left[left != right].index[0]} has another label in each")


def refuse_two_under_one_name(a: Run, b: Run) -> None:
    """Refuse runs that name one model, by its name and the hash of its weights, and were made with two.

    Raises:
        UserError: they were.
    """
    names = [(run.record.model, run.record.weights_sha256) for run in (a, b)]
    if names[0] != names[1] or not names[0][1]:
        return
    if unlike := behaviour.between(a.record, b.record):
        which = f"{b.directory} beside {a.directory}: {unlike}"
        raise UserError(f"both runs name {names[0][0]}, but they are of two models ({which})")
    clean = [run.verdicts.drop_duplicates("index").set_index("index")["clean_pred"] for run in (a, b)]
    left, right = clean[0].align(clean[1], join="inner")
    moved = int((left != right).sum())
    is_random = any(run.record.forced or (run.record.behaviour and run.record.behaviour.random) for run in (a, b))
    # Another processor may round a few images over the edge.
    if moved > max(1, len(left) // 100) and not is_random:
        where = f"{moved} of {len(left)} clean images are predicted otherwise in {b.directory} than in {a.directory}"
        raise UserError(f"both runs name {names[0][0]}, but {where}: they are of two models")
