"""evaluation.replayed: what a replay wrote, against a truth; JSON and a page beside it.

In   a finished replay, and a truth: a topic of the replayed bag, or a results file
Out  OUTPUT.json and OUTPUT.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mpmesh_core.errors import UsageError
from mpmesh_core.evaluation.identities import import_metrics
from mpmesh_core.evaluation.observed import ObservedFrame, observed_in_bag, observed_in_results
from mpmesh_core.evaluation.people import compare_people
from mpmesh_core.evaluation.plots import import_plotting
from mpmesh_core.evaluation.report_page import Evaluation, report_page
from mpmesh_core.outputs import refuse_folder, write_file
from mpmesh_core.paths import expanded
from mpmesh_core.people_recording import node_prefix
from mpmesh_core.replay import ReplayConfig, ReplayJob, ReplayReport

_REPORT = (".json", ".html")  # figures and page


@dataclass(frozen=True)
class Truth:
    """What is known of a bag's people."""

    name: str  # where it comes from
    frames: list[ObservedFrame]


def read_truths(jobs: Sequence[ReplayJob], config: ReplayConfig, text: str) -> dict[Path, Truth]:
    """The truth of each job's bag; what makes a comparison impossible is said before the work.

    Args:
        jobs: the bags.
        config: how they will be replayed.
        text: a topic of each (it begins with a slash and is no file), or a results.jsonl of the
            only one.

    Raises:
        UsageError: no such topic, one without people, one file for several bags, or a replay that
            writes no people.
        InputError, MissingFileError: a file that cannot be read, or a folder in a report's place.
        MissingPackageError: trackeval, matplotlib or jinja2 isn't installed.
    """
    if config.outputs is not None and "people" not in config.outputs:
        raise UsageError("--evaluate compares the output people; write it too: --only people")
    for job in jobs:
        for suffix in _REPORT:
            refuse_folder(job.output.with_suffix(suffix))
    import_metrics()
    import_plotting()
    path = expanded(text)
    if text.startswith("/") and not path.exists():
        return {job.bag: Truth(f"topic {text}", observed_in_bag(job.bag, text)) for job in jobs}
    if len(jobs) > 1:
        raise UsageError(f"--evaluate {text} is of one bag; name a topic to compare several")
    return {jobs[0].bag: Truth(path.name, observed_in_results(path))}


def evaluate_replay(replay: ReplayReport, config: ReplayConfig, truth: Truth) -> Evaluation:
    """Compare a replay's people with the truth, and write the figures beside its file.

    Args:
        replay: of the bag; its latencies are reported if it was made now.
        config: how it was made.
        truth: of the same bag.

    Raises:
        InputError: a truth of other frames.
    """
    found = observed_in_bag(replay.job.output, f"{node_prefix(config.node)}people")
    report, frames = compare_people(found, truth.frames)
    evaluation = Evaluation(
        title=f"People in {replay.job.bag.name}",
        truth=truth.name,
        report=report,
        frames=frames,
        found_people=found,
        true_people=truth.frames,
        latency_ms=replay.summary.latency.values,
    )
    page = report_page(evaluation)
    for suffix, text in zip(_REPORT, (_figures(evaluation), page)):
        write_file(replay.job.output.with_suffix(suffix), text.encode())
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
