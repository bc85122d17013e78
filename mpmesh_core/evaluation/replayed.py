"""evaluation.replayed: what a replay wrote, against a truth; JSON and a page beside it.

In   a finished replay, and a truth: a topic of the replayed bag, or a results file
Out  OUTPUT.json and OUTPUT.html
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mpmesh_core.errors import UsageError
from mpmesh_core.evaluation.observed import observed_in_bag, observed_in_results
from mpmesh_core.evaluation.people import compare_people
from mpmesh_core.evaluation.report_page import Evaluation, report_page
from mpmesh_core.outputs import write_file
from mpmesh_core.replay import ReplayConfig, ReplayReport


def evaluate_replay(replay: ReplayReport, config: ReplayConfig, truth: str) -> Evaluation:
    """Compare a replay's people with the truth, and write the figures beside its file.

    Args:
        replay: of the bag; its latencies are reported if it was made now.
        config: how it was made.
        truth: a topic of the bag (it begins with a slash and is no file), or a results.jsonl.

    Raises:
        UsageError: no such topic, or a replay without people.
        InputError: a truth of other frames.
        MissingPackageError: trackeval, matplotlib or jinja2 isn't installed.
    """
    if config.outputs is not None and "people" not in config.outputs:
        raise UsageError("--evaluate compares the output `people`; write it too (--only people)")
    path = Path(truth).expanduser()
    of_topic = truth.startswith("/") and not path.exists()
    known = observed_in_bag(replay.job.bag, truth) if of_topic else observed_in_results(path)
    found = observed_in_bag(replay.job.output, f"/{config.node.strip('/')}/people")
    report, frames = compare_people(found, known)
    latency = replay.summary.latency
    evaluation = Evaluation(
        title=f"People in {replay.job.bag.name}",
        truth=f"topic {truth}" if of_topic else path.name,
        report=report,
        frames=frames,
        found_people=found,
        true_people=known,
        latency_ms=latency,
    )
    page = report_page(evaluation)
    write_file(replay.job.output.with_suffix(".json"), _figures(evaluation).encode())
    write_file(replay.job.output.with_suffix(".html"), page.encode())
    return evaluation


def _figures(evaluation: Evaluation) -> str:
    """Figures of all frames and of each one, as JSON; lengths in millimetres."""
    latency = evaluation.latency_ms
    figures = asdict(evaluation.report)
    figures["latency_ms"] = (
        {f"p{p}": float(np.percentile(latency, p)) for p in (50, 95)} if latency else None
    )
    figures["per_frame"] = [
        {
            "stamp_ns": frame.stamp_ns,
            "truths": frame.truths,
            "found": frame.found,
            "position_mm": _millimetres(frame.position),
            "mpjpe_mm": _millimetres(frame.mpjpe),
        }
        for frame in evaluation.frames
    ]
    return json.dumps(figures, indent=1, allow_nan=False)


def _millimetres(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else round(1e3 * float(v), 3) for v in values]
