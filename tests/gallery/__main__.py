"""Make the gallery's table: what each model seems to hold, what its audit says, and what is left after its advice."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.report import render
from bench.store.record import Record
from tests.gallery.models import BROKEN, SOUND
from tests.gallery.trial import Factory, Trial, bare, tried

_IMAGES = 100
_OUT = Path("results")
_BARE = {"natural": "natural_digits", "adversarially_trained": "madry_digits"}
_HEAD = """# The gallery of the audit

Broken and sound models of the digits, linf 0.2, the first {n} images, made by `make gallery`. *true*: accuracy that the
net behind the defense keeps without it (`pgd,margin,square`), where there is one net; *pgd* and *adaptive*: accuracy
that `pgd` and `pgd,adaptive` leave; *signs*: what the audit of that run says; *then*: what it named, in turn; *worst*:
accuracy that all of it together leaves. [What the signs mean](../docs/audit.md).

"""


def _row(factory: Factory, kind: str, trial: Trial) -> dict[str, object]:
    return {
        "model": factory.__name__,
        "kind": kind,
        "true_accuracy": _true(factory),
        "clean_accuracy": trial.clean,
        "pgd_accuracy": trial.plain,
        "adaptive_accuracy": trial.first,
        "signs": "; ".join(dict.fromkeys(sign.name for sign in trial.signs)),
        "then": "; ".join(_named(run.record) for run in trial.runs[1:]),
        "worst_accuracy": trial.last,
    }


def _true(factory: Factory) -> float | None:
    """What the net behind a defense holds without it, where there is one net; what a model is that is bare."""
    name = getattr(factory(), "name", None) or _BARE.get(factory.__name__)
    return None if name is None else bare(name, _IMAGES)


def _named(record: Record) -> str:
    attacks = ",".join(attack.spec for attack in record.attacks)
    eot = f" --eot {record.eot}" if record.eot > 1 else ""
    return attacks + eot + (f" --backward {record.backward}" if record.backward else "")


def main(names: Sequence[str] = ()) -> None:
    """Write the table as CSV and Markdown; with names, make the rows of these models again and keep the others."""
    path = _OUT / "gallery.csv"
    rows = {row["model"]: row for row in pd.read_csv(path).to_dict("records")} if names else {}
    for kind, factories in (("broken", BROKEN), ("sound", SOUND)):
        for factory in factories:
            if not names or factory.__name__ in names:
                rows[factory.__name__] = _row(factory, kind, tried(factory, _IMAGES))
                print(rows[factory.__name__], flush=True)
    table = pd.DataFrame([rows[factory.__name__] for factory in (*BROKEN, *SOUND)])
    path.write_text(render.csv(table), encoding="utf-8")
    text = _HEAD.format(n=_IMAGES) + render.markdown(table)
    (_OUT / "gallery.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
