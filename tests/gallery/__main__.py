"""Make the gallery's table: what each model seems to hold, what its audit says, and what is left after its advice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.report import render
from tests.gallery.models import BROKEN, SOUND
from tests.gallery.trial import Factory, Trial, tried

_IMAGES = 200
_OUT = Path("results/gallery")


def _row(factory: Factory, kind: str, trial: Trial) -> dict[str, object]:
    steps = [
        " ".join(
            filter(
                None, [run.record.labels[-1] if len(run.record.attacks) == 1 else "pgd,margin", *_options(run.record)]
            )
        )
        for run in trial.runs[1:]
    ]
    return {
        "model": factory.__name__,
        "kind": kind,
        "clean_accuracy": trial.clean,
        "pgd_accuracy": trial.plain,
        "adaptive_accuracy": trial.first,
        "signs": "; ".join(dict.fromkeys(sign.name for sign in trial.signs)),
        "then": "; ".join(steps),
        "last_accuracy": trial.last,
    }


def _options(record: object) -> list[str]:
    eot, backward = getattr(record, "eot", 1), getattr(record, "backward", None)
    return [*([f"--eot {eot}"] if eot > 1 else []), *([f"--backward {backward}"] if backward else [])]


def main() -> None:
    """Write the table as CSV and Markdown."""
    rows = []
    for kind, factories in (("broken", BROKEN), ("sound", SOUND)):
        for factory in factories:
            rows.append(_row(factory, kind, tried(factory, _IMAGES)))
            print(rows[-1], flush=True)
            table = pd.DataFrame(rows)
            _OUT.mkdir(parents=True, exist_ok=True)
            (_OUT / "gallery.csv").write_text(render.csv(table), encoding="utf-8")
            (_OUT / "gallery.md").write_text(render.markdown(table), encoding="utf-8")


if __name__ == "__main__":
    main()
