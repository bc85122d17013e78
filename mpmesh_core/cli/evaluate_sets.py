"""cli.evaluate_sets: `mpmesh evaluate 3dpw|mupots|agora`: data sets under their own protocols."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpmesh_core.cli import options
from mpmesh_core.cli.evaluate_report import Output, check_output, show_report, with_progress
from mpmesh_core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from mpmesh_core.body import BodyModel
    from mpmesh_core.datasets.record import PersonRecord
    from mpmesh_core.evaluation.predictions import Find

Root = Annotated[Path, typer.Argument(help="Folder of the data set, or one that holds it.")]
PredictionFile = Annotated[
    Path | None,
    typer.Option(help="Saved output of a method to score; the pipeline runs without."),
]
Split = Annotated[str, typer.Option(help="Part of the data set.")]
Method = Annotated[str | None, typer.Option(help="What the method is called in the report.")]


def threedpw(
    root: Root,
    predictions: PredictionFile = None,
    split: Split = "test",
    regressor: Annotated[
        Path | None, typer.Option(help="J_regressor_h36m.npy; beside the SMPL files by default.")
    ] = None,
    own_boxes: Annotated[
        bool, typer.Option("--own-boxes", help="The detector's boxes instead of the truth's.")
    ] = False,
    method: Method = None,
    body: options.Body = "smpl",
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    output: Output = None,
) -> None:
    """3DPW under SPIN's protocol: 14 joints, MPJPE, PA-MPJPE and PVE.

    Needs the SMPL files of both genders for the truth, whatever the method's body is.

    Example: mpmesh evaluate 3dpw ../3DPW --predictions mine.zip --output 3dpw.json
    """
    from mpmesh_core.datasets.threedpw import read
    from mpmesh_core.evaluation.predictions import open_predictions
    from mpmesh_core.evaluation.predictions.truths import SmplMeshes, h36m_regressor
    from mpmesh_core.evaluation.score_threedpw import score_threedpw
    from mpmesh_core.evaluation.threedpw import PROTOCOL, points_box

    check_output(output)
    meshes, rows = SmplMeshes(), h36m_regressor(regressor)
    boxes = "the detector's" if own_boxes else PROTOCOL.boxes
    if predictions is not None:
        boxes = "the method's own choice, which its output doesn't tell"
        find: Find = open_predictions(predictions, "3dpw", _body(body))
    else:
        find = _pipeline(
            None if own_boxes else lambda person: points_box(person.points2d["openpose18"]),
            body=body,
            backend=backend,
            device=device,
            variant=variant,
            weights=weights,
            refine=refine,
            mirror=mirror,
        )
    records = with_progress(read(root, split), "frames")
    name = _name(method, predictions, variant)
    show_report(score_threedpw(records, find, meshes, rows, name, boxes), output)


def mupots(
    root: Root,
    predictions: PredictionFile = None,
    sequence: Annotated[
        list[str] | None, typer.Option(help="Only these, such as TS3; may be repeated.")
    ] = None,
    method: Method = None,
    body: options.Body = "open",
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    output: Output = None,
) -> None:
    """MuPoTS-3D: 3DPCK and AUC of all annotated people and of the matched ones.

    Example: mpmesh evaluate mupots ../MuPoTS-3D --predictions preds_3d_kpt_mupots.mat
    """
    from mpmesh_core.datasets.mupots import SEQUENCES, read_sequences
    from mpmesh_core.evaluation.predictions import open_predictions
    from mpmesh_core.evaluation.score_mupots import score_mupots

    check_output(output)
    names = tuple(sequence or SEQUENCES)
    unknown = [name for name in names if name not in SEQUENCES]
    if unknown:
        raise UsageError(f"--sequence {unknown[0]}: MuPoTS-3D has TS1 to TS20")
    if predictions is not None:
        find: Find = open_predictions(predictions, "mupots")
    else:
        find = _pipeline(
            None,
            meshes=False,
            body=body,
            backend=backend,
            device=device,
            variant=variant,
            weights=weights,
            refine=refine,
            mirror=mirror,
        )
    records = with_progress(read_sequences(root, names), "frames")
    show_report(score_mupots(records, find, _name(method, predictions, variant)), output)


def agora(
    root: Root,
    predictions: PredictionFile = None,
    split: Split = "validation",
    body_vertices: Annotated[
        Path | None, typer.Option(help="body_verts_smpl.npy; under ROOT by default.")
    ] = None,
    method: Method = None,
    body: options.Body = "smpl",
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    output: Output = None,
) -> None:
    """AGORA, SMPL bodies: NMJE, NMVE, MPJPE, MVE and F1.

    The open body (--body open) has no MVE and NMVE, which are of SMPL's vertices.

    Example: mpmesh evaluate agora ../AGORA --predictions predictions.zip --output agora.json
    """
    from mpmesh_core.datasets.agora import read
    from mpmesh_core.evaluation.predictions import open_predictions
    from mpmesh_core.evaluation.predictions.truths import agora_body_vertices
    from mpmesh_core.evaluation.score_agora import score_agora

    check_output(output)
    chosen = agora_body_vertices(root, body_vertices)
    if predictions is not None:
        find: Find = open_predictions(predictions, "agora", _body(body))
    else:
        find = _pipeline(
            None,
            body=body,
            backend=backend,
            device=device,
            variant=variant,
            weights=weights,
            refine=refine,
            mirror=mirror,
        )
    records = with_progress(read(root, split), "pictures")
    show_report(score_agora(records, find, chosen, _name(method, predictions, variant)), output)


def _body(name: str) -> BodyModel | None:
    """The body of SMPL parameters; None where it isn't there, which only parameters mind."""
    from mpmesh_core.body import load_body
    from mpmesh_core.errors import MissingFileError

    try:
        return load_body(name)
    except MissingFileError:
        if name != "smpl":
            raise
        return None


def _pipeline(
    true_box: Callable[[PersonRecord], np.ndarray] | None, meshes: bool = True, **values: object
) -> Find:
    from mpmesh_core.evaluation.by_pipeline import PipelinePeople

    return PipelinePeople(options.load_pipeline(track=False, **values), true_box, meshes)


def _name(method: str | None, predictions: Path | None, variant: str) -> str:
    if method is not None:
        return method
    return f"MPMesh, {variant}" if predictions is None else predictions.name
