"""What a detector did, as plain files, and what the numbers of detection mean, defined here and nowhere else.

A detection is a folder with `detect.json` (its record) and `scores.csv`: a row an image, fitted detector and attack.
Each image belongs to one part alone: *fit* (the detector was fitted on it), *calibration* (the threshold was set on it)
or *test* (all below is over these). `attack` is "clean", "noise", an attack, or "joint", the adaptive one.

An image is right when its clean prediction is its label; attacks meet right images alone; broken as in `measures`. A
score above 0 says "adversarial, more likely than not" (flagged); above the threshold, the 95 % quantile of the scores
of right clean calibration images, an image is rejected.

- ACC-NADV: the share of right clean and noisy images that are not flagged;
- ACC-COM: the share of attacked images that are flagged or still classified right (both as the ER-Classifier's
  supplement must be read, whose tables use them without a definition);
- AUROC and TPR at 5 % FPR: right clean images against broken ones;
- FPR: the share of right clean images that are rejected;
- clean accuracy with reject = right and not rejected / n;
- robust accuracy with reject = right, not rejected when clean, and no broken twin that is not rejected / n.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import files, store
from bench.measures import wilson
from bench.store import Run
from bench.types import CLEAN, NOT_FINITE, UserError

SCHEMA_VERSION = 1
RECORD, SCORES = "detect.json", "scores.csv"
NOISE, JOINT = "noise", "joint"
PARTS = ("fit", "calibration", "test")
COLUMNS = (
    "part",
    "fit_attack",
    "attack",
    "index",
    "label",
    "clean_pred",
    "adv_pred",
    "norm",
    "eps",
    "size",
    "lawful",
    "broken",
    "score",
)
SUMMARY = (
    "model",
    "data",
    "detector",
    "fit_attack",
    "attack",
    "norm",
    "eps",
    "n",
    "broken_n",
    "nadv_accuracy",
    "nadv_accuracy_low",
    "nadv_accuracy_high",
    "com_accuracy",
    "com_accuracy_low",
    "com_accuracy_high",
    "auroc",
    "tpr_rate",
    "fpr_rate",
    "clean_accuracy",
    "clean_reject_accuracy",
    "robust_accuracy",
    "robust_reject_accuracy",
    "robust_reject_accuracy_low",
    "robust_reject_accuracy_high",
)
QUANTILE = 0.95
_TEXT = dict.fromkeys(("part", "fit_attack", "attack", "norm"), "str")


def threshold(scores: Any) -> float:
    """The score that at most 5 % of calibration scores exceed; infinity without any, so that nothing is rejected."""
    known = np.sort(np.asarray(scores, np.float64))
    return float(np.quantile(known, QUANTILE, method="higher")) if len(known) else float("inf")


def write(directory: Path, record: Mapping[str, Any], scores: pd.DataFrame) -> Run:
    """Store a detection and return it as `load` would.

    Raises:
        UserError: the folder holds a detection or a run, or cannot be written.
    """
    if any((directory / name).exists() for name in (RECORD, SCORES, "run.json")):
        raise UserError(f"{directory} holds another run: choose another --out")
    files.write_atomically(directory / SCORES, scores[list(COLUMNS)].to_csv(index=False, lineterminator="\n"))
    files.write_atomically(directory / RECORD, store.dump({"schema_version": SCHEMA_VERSION, **record}))
    return load(directory)


def load(directory: Path) -> Run:
    """A stored detection as a run without verdicts: its record names the model and the data as any run's does.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    path = directory / RECORD
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{directory} holds no detection: there is no {RECORD} in it") from None
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged: detect again") from None
    if record.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {record.get('schema_version')}: detect again with this version")
    return Run(store.frame([]), record, directory)


def is_detection(run: Run) -> bool:
    """Whether a run holds scores of a detector in place of verdicts."""
    return "detector" in run.record and run.directory is not None


def scores(run: Run) -> pd.DataFrame:
    """The scores of a detection, columns `COLUMNS`; the file may be gzipped.

    Raises:
        UserError: the file is missing or damaged.
    """
    home = run.directory or Path()
    path = next((place for place in (home / SCORES, home / f"{SCORES}.gz") if place.exists()), home / SCORES)
    try:
        text = files.read_content(path).decode()
        table = pd.read_csv(io.StringIO(text), dtype=_TEXT, keep_default_na=False, na_values=["", "nan"])
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is damaged ({files.one_line(error)}): detect again") from None
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path} has other columns than {','.join(COLUMNS)}: it is not a detection's")
    return table


def summary(run: Run) -> pd.DataFrame:
    """A row a fitted detector and attack it meets, columns `SUMMARY`: fractions over the test images."""
    table = scores(run)
    record = run.record
    who = {"model": record.get("model", ""), "data": record.get("data", ""), "detector": record["detector"]["spec"]}
    rows = [who | row for fit_attack, rows in _by_fit(table) for row in _meetings(fit_attack, rows)]
    return pd.DataFrame(rows, columns=list(SUMMARY)).astype({"eps": "float64"})


def _by_fit(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in dict.fromkeys(table["fit_attack"]):
        yield str(name), table[table["fit_attack"] == name]


def _meetings(fit_attack: str, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of one fitted detector: every attack in the order it was made, and of all of them the worst."""
    rights = table[table["label"] == table["clean_pred"]]
    level = threshold(rights[(rights["part"] == "calibration") & (rights["attack"] == CLEAN)]["score"])
    test = table[table["part"] == "test"]
    clean = test[test["attack"] == CLEAN].set_index("index").sort_index()
    right = clean["label"] == clean["clean_pred"]
    passed = right & (clean["score"] <= level)
    # Noise that is misclassified is no adversary: it counts here as any noisy image does.
    harmless = test[test["attack"].isin([CLEAN, NOISE]) & (test["label"] == test["clean_pred"])]["score"] <= 0
    shared = {
        "fit_attack": fit_attack,
        "n": len(clean),
        **_share("nadv_accuracy", int(harmless.sum()), len(harmless)),
        "fpr_rate": _ratio(int((right & ~passed).sum()), int(right.sum())),
        "clean_accuracy": _ratio(int(right.sum()), len(clean)),
        "clean_reject_accuracy": _ratio(int(passed.sum()), len(clean)),
    }
    for attack in dict.fromkeys(test["attack"]):
        if attack in (CLEAN, NOISE):
            continue
        rows = test[test["attack"] == attack].set_index("index").reindex(clean.index)
        yield shared | _meeting(attack, rows, clean["score"], right, passed, level)


def _meeting(
    attack: str, rows: pd.DataFrame, clean: pd.Series[Any], right: pd.Series[Any], passed: pd.Series[Any], level: float
) -> dict[str, Any]:
    broken = right & rows["broken"].fillna(False).astype(bool) & (rows["adv_pred"] != NOT_FINITE)
    met = right & rows["score"].notna()
    stopped = (rows["score"] > 0) | (rows["adv_pred"] == rows["label"])
    through = broken & ~(rows["score"] > level)
    adversarial, harmless = rows["score"][broken], clean[right]
    first = rows[met].iloc[:1]
    return {
        "attack": attack,
        "norm": "".join(first["norm"].dropna()),
        "eps": next(iter(first["eps"]), None),
        "broken_n": int(broken.sum()),
        **_share("com_accuracy", int((met & stopped).sum()), int(met.sum())),
        "auroc": auroc(harmless, adversarial),
        "tpr_rate": _ratio(int((adversarial > threshold(harmless)).sum()), len(adversarial)),
        "robust_accuracy": _ratio(int((right & ~broken).sum()), len(right)),
        **_share("robust_reject_accuracy", int((passed & ~through).sum()), len(right)),
    }


def auroc(harmless: Any, adversarial: Any) -> float:
    """The chance that an adversarial score is above a harmless one, ties counting half; NaN without either."""
    if not len(harmless) or not len(adversarial):
        return float("nan")
    from sklearn.metrics import roc_auc_score

    y = np.repeat([0, 1], [len(harmless), len(adversarial)])
    return float(roc_auc_score(y, np.concatenate([harmless, adversarial])))


def _share(name: str, count: int, of: int) -> dict[str, float]:
    low, high = wilson(count, of)
    return {name: _ratio(count, of), f"{name}_low": low, f"{name}_high": high}


def _ratio(count: int, of: int) -> float:
    return count / of if of else float("nan")
