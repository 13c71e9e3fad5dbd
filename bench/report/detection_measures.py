"""What the numbers of detection mean, defined here and nowhere else: all are over the test images of `detections`.

An image is right when its clean prediction is its label; attacks meet right images alone; broken as in `measures`. A
score above 0 says "adversarial, more likely than not" (flagged); above the threshold, the 95 % quantile of the scores
of right clean calibration images, an image is rejected.

- ACC-NADV: the share of right clean and noisy images that are not flagged;
- ACC-COM: the share of attacked images that are flagged or still classified right (both as the ER-Classifier's
  supplement must be read, whose tables use them without a definition);
- AUROC and TPR at 5 % FPR: right clean images against broken ones;
- FPR: the share of right clean images that are rejected;
- clean accuracy with reject = right and not rejected / n;
- robust accuracy with reject = right, not rejected when clean, and not broken by an example that is not rejected / n;
- worst: the same over the attacks within the budget, the joint one among them, image by image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.core import verdicts
from bench.core.types import CLEAN
from bench.report.measures import WORST
from bench.report.significance import wilson
from bench.store import detections
from bench.store.detections import NOISE, Detection, threshold

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


def summary(run: Detection) -> pd.DataFrame:
    """A row a fitted detector and attack it meets, columns `SUMMARY`: fractions over the test images."""
    table = detections.scores(run)
    record = run.record
    who = {"model": record.model, "data": record.data, "detector": record.detector.spec}
    threat = {"norm": record.threat.norm, "eps": record.threat.eps}
    rows = [who | row for fit_attack, rows in _by_fit(table) for row in _meetings(fit_attack, rows, threat)]
    return pd.DataFrame(rows, columns=list(SUMMARY)).astype({"eps": "float64"})


def _by_fit(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in dict.fromkeys(table["fit_attack"]):
        yield str(name), table[table["fit_attack"] == name]


def _meetings(fit_attack: str, table: pd.DataFrame, threat: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one fitted detector: every attack in the order it was made, then the worst of those in the budget."""
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
    inside = []
    for attack in dict.fromkeys(test["attack"]):
        if attack in (CLEAN, NOISE):
            continue
        rows = test[test["attack"] == attack].set_index("index").reindex(clean.index)
        met, adversarial = _met(rows, clean, level), rows["score"]
        first = rows[met["met"]].iloc[:1]
        budget = {"norm": "".join(first["norm"].dropna()), "eps": next(iter(first["eps"]), None)}
        apart = _told_apart(clean["score"][right], adversarial[met["broken"]])
        yield shared | {"attack": attack} | budget | _counted(met, right, passed) | apart
        inside += [met] if budget == threat else []
    if len(inside) > 1:
        yield shared | {"attack": WORST} | threat | _counted(_worst(inside), right, passed)


def _met(rows: pd.DataFrame, clean: pd.DataFrame, level: float) -> pd.DataFrame:
    """Of each test image: was it attacked, broken, stopped at even odds, and did it pass the threshold broken."""
    # Rows of images that the attack never met are empty: nothing lawful was proposed for them.
    lawful = rows["lawful"].fillna(False).astype(bool)
    broken = verdicts.broken(clean["label"], clean["clean_pred"], rows["adv_pred"], lawful)
    met = (clean["label"] == clean["clean_pred"]) & rows["score"].notna()
    stopped = met & ((rows["score"] > 0) | (rows["adv_pred"] == rows["label"]))
    return pd.DataFrame(
        {"met": met, "broken": broken, "stopped": stopped, "through": broken & ~(rows["score"] > level)}
    )


def _worst(met: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The same of the attack that is worst for each image."""
    worst = {name: sum(attack[name] for attack in met) > 0 for name in ("met", "broken", "through")}
    return pd.DataFrame({**worst, "stopped": sum(attack["met"] & ~attack["stopped"] for attack in met) == 0})


def _counted(met: pd.DataFrame, right: pd.Series[Any], passed: pd.Series[Any]) -> dict[str, Any]:
    return {
        "broken_n": int(met["broken"].sum()),
        **_share("com_accuracy", int((met["met"] & met["stopped"]).sum()), int(met["met"].sum())),
        "robust_accuracy": _ratio(int((right & ~met["broken"]).sum()), len(right)),
        **_share("robust_reject_accuracy", int((passed & ~met["through"]).sum()), len(right)),
    }


def _told_apart(harmless: pd.Series[Any], adversarial: pd.Series[Any]) -> dict[str, float]:
    caught = int((adversarial > threshold(harmless)).sum())
    return {"auroc": auroc(harmless, adversarial), "tpr_rate": _ratio(caught, len(adversarial))}


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
