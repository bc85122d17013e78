"""evaluation.ablation_report: what the rows of an ablation say, with how sure that is.

In   Ablation: errors of each held-out person in every row
Out  figures as JSON values and a page in Markdown

Two things vary: the seed of a training, and who happens to be held out. A row's interval speaks of
the seed (Student's t over the means of the seeds). A claim that one stage is better than another is
judged on the same people, and has to hold for both: the interval of the mean difference over
resampled pictures, and that over seeds.
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
    """The paper's claims as differences on the same people, negative where they hold."""
    alone = {row.name: [_stage(ablation.unrefined, row.name)] for row in UNREFINED}
    pairs = [
        ("IK better than the network's joints", alone["ik"], alone["skeleton"]),
        ("IK better than the joints as placed", alone["ik"], alone["placed"]),
    ]
    refined = {
        (name, stage): [_stage(errors, stage) for errors in runs]
        for name, runs in ablation.refined.items()
        for stage in ("pipeline", "refiner")
    }
    if FULL in ablation.refined:
        own = refined[FULL, "refiner"]
        pairs += [
            ("IK + refiner, pipeline, better than IK", refined[FULL, "pipeline"], alone["ik"]),
            ("IK + refiner, as the refiner says, better than IK", own, alone["ik"]),
        ]
        pairs += [
            (f"N = 3, as the refiner says, better than: {row.title}", own,
             refined[row.name, "refiner"])
            for row in REFINED
            if row.name in ablation.refined and row.name != FULL
        ]  # fmt: skip
    return [
        {"claim": text}
        | {
            metric: difference(
                np.array([errors[metric] for errors in first]),
                np.array([errors[metric] for errors in second]),
                ablation.pictures,
            )
            for metric in METRICS
            if metric in first[0] and metric in second[0]
        }
        for text, first, second in pairs
    ]


def _stage(errors: Errors, stage: str) -> Errors:
    """Errors of one stage by metric."""
    return {m: errors[f"{stage}/{m}"] for m in METRICS if f"{stage}/{m}" in errors}


def difference(first: Floats, second: Floats, pictures: Floats) -> dict[str, Any]:
    """Mean of `first - second`, its 95 % interval over resampled pictures, and that over seeds.

    Args:
        first, second: (S, P) errors of the same people, a row a seed; (1, P) where there is none.
        pictures: (P,) which picture each is in; people of one picture stay together.

    Returns:
        `mean`, `low`, `high`, `half` (over seeds, None for a single one), and `holds`: both
        intervals lie below 0.
    """
    seeds = first - second
    apart = seeds.mean(0)
    _, picture = np.unique(pictures, return_inverse=True)
    sums, counts = np.bincount(picture, apart), np.bincount(picture)
    draws = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    low, high = np.quantile(sums[draws].sum(1) / counts[draws].sum(1), (0.025, 0.975))
    half = over_seeds(seeds.mean(1).tolist())["half"]
    mean = float(apart.mean())
    return {
        "mean": mean,
        "low": float(low),
        "high": float(high),
        "half": half,
        "holds": bool(high < 0 and mean + (half or 0.0) < 0),
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
    heads = " | ".join(TITLES[m] for m in METRICS)
    lines += [
        "",
        "Differences on the same people in mm, with the 95 % interval over pictures and, after ±, "
        "that over seeds; negative is better.",
        "",
        f"| claim | {heads} | holds on MPJPE |",
        "|---|---|---|---|---|",
    ]
    for claim in report["claims"]:
        cells = [_interval(claim.get(m)) for m in METRICS]
        held = "yes" if claim["mpjpe"]["holds"] else "no"
        lines.append(f"| {claim['claim']} | {' | '.join(cells)} | {held} |")
    return "\n".join(lines) + "\n"


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    half = figure["half"]
    return f"{figure['mean']:.1f}" + ("" if half is None else f" ± {half:.2f}")


def _interval(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    half = "" if found["half"] is None else f"; ± {found['half']:.2f}"
    return f"{found['mean']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f}{half})"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
