"""Whether two models answer alike on a fixed batch; compared with a tolerance, because no two hosts round alike."""

from __future__ import annotations

from bench.store.record import Behaviour, Record

TOLERANCE = 1e-3
"""How far two answers may lie apart, of how far the logits of the image lie apart."""
_DIGITS = 1e-4
"""What six stored digits and other kernels may change, of the answer itself: probabilities of 1e-20 are answers too."""


def difference(old: Behaviour, new: Behaviour, same_images: bool = True) -> str | None:
    """In what two models answer unlike, in words; None if in nothing that can be told.

    Args:
        old: what the one answers.
        new: what the other answers.
        same_images: whether the batches hold the same images beside the noise; if not, the noise alone is compared.
    """
    if old.random != new.random:
        words = {True: "otherwise at each call", False: "the same at each call"}
        return f"a model that answers {words[old.random]}, not {words[new.random]}"
    if old.random:
        return None
    mine, theirs = (_rows(answers, same_images) for answers in (old, new))
    if len(mine) != len(theirs) or {len(row) for row, _ in mine} != {len(row) for row, _ in theirs}:
        return "a model whose logits are of another shape"
    unlike = sum(not _alike(*pair) for pair in zip(mine, theirs, strict=True))
    if not unlike:
        return None
    return f"a model whose logits are others on {unlike} of {len(mine)} images that were tried"


def between(old: Record, new: Record) -> str | None:
    """`difference` for two records, None too where one of them does not say."""
    if old.behaviour is None or new.behaviour is None:
        return None
    seen = [record.indices[: len(record.behaviour.values)] for record in (old, new) if record.behaviour]
    return difference(old.behaviour, new.behaviour, seen[0] == seen[1] and old.data_sha256 == new.data_sha256)


Row = tuple[tuple[float | None, ...], float]


def _rows(answers: Behaviour, same_images: bool) -> list[Row]:
    rows = list(zip(answers.values, answers.scales, strict=False))
    return rows if same_images else rows[len(rows) - answers.noise :]


def _alike(old: Row, new: Row) -> bool:
    scale = max(old[1], new[1])
    for a, b in zip(old[0], new[0], strict=True):
        if (a is None) != (b is None):
            return False
        if a is not None and b is not None and abs(a - b) > TOLERANCE * scale + _DIGITS * abs(a):
            return False
    return True
