"""evaluation.ablation_report: what the rows of an ablation say, with how sure that is.

In   Ablation: errors of each held-out person in every row
Out  figures as JSON values and a page in Markdown

Two things vary: the seed of a training, and who happens to be held out. A row's interval speaks of
the seed (Student's t over the means of the seeds). A claim that one stage is better than another is
judged on the same people: the interval of the mean difference over resampled pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from mpmesh_core.evaluation.ablation import METRICS, REFINED, UNREFINED, Ablation, Errors, Row
from mpmesh_core.evaluation.metrics import Floats

RESAMPLES = 2000
TITLES = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "mve": "MVE"}
FULL = "n3"  # the paper's own choice
Figure = dict[str, float | None]  # mean and half of the 95 % interval over seeds [mm]


def summarise(ablation: Ablation) -> dict[str, Any]:
    """All figures of the report, JSON values; errors in mm."""
    rows = [_row(row, {row.name: [ablation.unrefined]}, row.name, "stage") for row in UNREFINED]
    trained = [row for row in REFINED if row.name in ablation.refined]
    rows += [
        _row(row, ablation.refined, stage, stage)
        for stage in ("pipeline", "refiner")
        for row in trained
    ]
    return {
        "protocol": "24 SMPL joints and all vertices of the body model, pelvis on pelvis, "
        "Procrustes with scale for PA-MPJPE; boxes from the truth, jittered",
        "people": len(ablation.pictures),
        "pictures": len(np.unique(ablation.pictures)),
        "seeds": max(map(len, ablation.refined.values()), default=0),
        "rows": rows,
        "claims": _claims(ablation),
    }


def _row(row: Row, runs: dict[str, list[Errors]], stage: str, measured: str) -> dict[str, Any]:
    figures = {
        metric: over_seeds([float(e[f"{stage}/{metric}"].mean()) for e in runs[row.name]])
        for metric in METRICS
        if f"{stage}/{metric}" in runs[row.name][0]
    }
    paper = dict(zip(METRICS, row.paper))
    return {"name": row.name, "title": row.title, "measured": measured, **figures, "paper": paper}


def over_seeds(means: list[float]) -> Figure:
    """Mean, and half of its 95 % interval, None for a single seed."""
    if len(means) < 2:
        return {"mean": means[0], "half": None}
    spread = float(np.std(means, ddof=1)) / len(means) ** 0.5
    half = float(stats.t.ppf(0.975, len(means) - 1)) * spread
    return {"mean": float(np.mean(means)), "half": half}


def _claims(ablation: Ablation) -> list[dict[str, Any]]:
    """The paper's claims as differences of MPJPE, negative where they hold."""
    alone = {name: ablation.unrefined[f"{name}/mpjpe"] for name in ("skeleton", "placed", "ik")}
    pairs = [
        ("IK better than the network's joints", alone["ik"], alone["skeleton"]),
        ("IK better than the joints as placed", alone["ik"], alone["placed"]),
    ]

    def mean(name: str, stage: str = "pipeline") -> Floats:
        return np.mean([errors[f"{stage}/mpjpe"] for errors in ablation.refined[name]], axis=0)

    if FULL in ablation.refined:
        full = mean(FULL)
        pairs += [
            ("IK + refiner (pipeline) better than IK", full, alone["ik"]),
            ("IK + refiner (refiner's own joints) better than IK", mean(FULL, "refiner"),
             alone["ik"]),
        ]  # fmt: skip
        pairs += [
            (f"N = 3 better than: {row.title}", full, mean(row.name))
            for row in REFINED
            if row.name in ablation.refined and row.name != FULL
        ]
    return [{"claim": text, **difference(a, b, ablation.pictures)} for text, a, b in pairs]


def difference(first: Floats, second: Floats, pictures: Floats) -> dict[str, float | bool]:
    """Mean of `first - second` over people, and its 95 % interval over resampled pictures.

    Args:
        first, second: (P,) errors of the same people.
        pictures: (P,) which picture each is in; people of one picture stay together.
    """
    _, picture = np.unique(pictures, return_inverse=True)
    sums, counts = np.bincount(picture, first - second), np.bincount(picture)
    draws = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    low, high = np.quantile(sums[draws].sum(1) / counts[draws].sum(1), (0.025, 0.975))
    return {
        "mean": float((first - second).mean()),
        "low": float(low),
        "high": float(high),
        "holds": bool(high < 0),
    }


def to_markdown(report: dict[str, Any]) -> str:
    """The report as a page: rows beside the paper's, then the claims."""
    head = [f"{TITLES[m]} | {TITLES[m]} in the paper" for m in METRICS]
    lines = [
        f"{report['people']} people in {report['pictures']} pictures, {report['seeds']} seeds, "
        "errors in mm with the 95 % interval over seeds. The paper's figures are of 3DPW.",
        "",
        f"| row | measured | {' | '.join(head)} |",
        "|---|---|" + "---|" * 2 * len(METRICS),
    ]
    for row in report["rows"]:
        cells = [f"{_figure(row.get(m))} | {_plain(row['paper'][m])}" for m in METRICS]
        lines.append(f"| {row['title']} | {row['measured']} | {' | '.join(cells)} |")
    lines += ["", "| claim | MPJPE difference | 95 % over pictures | holds |", "|---|---|---|---|"]
    for claim in report["claims"]:
        interval = f"{claim['low']:+.2f} to {claim['high']:+.2f}"
        held = "yes" if claim["holds"] else "no"
        lines.append(f"| {claim['claim']} | {claim['mean']:+.2f} | {interval} | {held} |")
    return "\n".join(lines) + "\n"


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    half = figure["half"]
    return f"{figure['mean']:.1f}" + ("" if half is None else f" ± {half:.2f}")


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
