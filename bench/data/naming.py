"""Names of directories or columns held to the names that a model, or a file, gives its classes."""

from __future__ import annotations

from collections.abc import Sequence


def labels_of_names(names: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """The class of each name; nothing unless every name is that of one class, and no two of the same.

    A class goes by its whole name ("tench, Tinca tinca"), by what stands before the first comma, and by its first word
    where that is a WordNet number ("n01440764 tench"). Case, `_` and `-` are not told apart from a space.
    """
    known: dict[str, int] = {}
    for length in (0, 1):  # a whole name goes before a part of another
        for label, name in enumerate(classes):
            parts = [name] if not length else [name.partition(",")[0], *_number(name)]
            for part in parts:
                known.setdefault(_plain(part), label)
    labels = tuple(known.get(_plain(name), -1) for name in names)
    return labels if -1 not in labels and len(set(labels)) == len(labels) else ()


def _number(name: str) -> list[str]:
    first = name.split()[0] if name.split() else ""
    return [first] if first[:1] == "n" and first[1:].isdigit() and len(first) == 9 else []


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
