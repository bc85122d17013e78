"""cli.evaluate_sets: `mpmesh evaluate 3dpw|mupots|agora`: data sets under their own protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpmesh_core.cli import options
from mpmesh_core.cli.evaluate_report import Output, check_output, show_report, with_progress
from mpmesh_core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from mpmesh_core.body import BodyModel
    from mpmesh_core.datasets.record import FrameRecord, PersonRecord
    from mpmesh_core.evaluation.predictions import Find

PredictionFile = Annotated[
    Path | None,
    typer.Option(help="Saved output of a method to score; the pipeline runs without."),
]
Method = Annotated[str | None, typer.Option(help="What the method is called in the report.")]


def threedpw(
    root: options.DatasetRoot,
    predictions: PredictionFile = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
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
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Output = None,
) -> None:
    """3DPW under SPIN's protocol: 14 joints, MPJPE, PA-MPJPE and PVE.

    Needs the SMPL files of both genders for the truth, whatever the method's body is.

    Example: mpmesh evaluate 3dpw --root ../datasets --predictions mine.zip --output 3dpw.json
    """
    from mpmesh_core.datasets import read_dataset
    from mpmesh_core.evaluation.predictions.truths import SmplMeshes, h36m_regressor
    from mpmesh_core.evaluation.score_threedpw import score_threedpw
    from mpmesh_core.evaluation.threedpw import PROTOCOL, points_box

    check_output(output)
    meshes, rows = SmplMeshes(), h36m_regressor(regressor)
    boxes = "the detector's" if own_boxes else PROTOCOL.boxes
    records = read_dataset("3dpw", root, split)
    if predictions is not None:
        boxes = "the method's own choice, which its output doesn't tell"
        find, records = _open(predictions, "3dpw", records, _body(body))
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
            second_look=second_look,
            fuse=fuse,
        )
    name = _name(method, predictions, variant)
    frames = with_progress(records, "frames")
    show_report(score_threedpw(frames, find, meshes, rows, name, boxes), output)


def mupots(
    root: options.DatasetRoot,
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
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Output = None,
) -> None:
    """MuPoTS-3D: 3DPCK and AUC of all annotated people and of the matched ones.

    Example: mpmesh evaluate mupots --root ../datasets --predictions preds_3d.mat
    """
    from mpmesh_core.datasets.mupots import SEQUENCES, read_sequences
    from mpmesh_core.evaluation.score_mupots import score_mupots

    check_output(output)
    names = tuple(sequence or SEQUENCES)
    unknown = [name for name in names if name not in SEQUENCES]
    if unknown:
        raise UsageError(f"--sequence {unknown[0]}: MuPoTS-3D has TS1 to TS20")
    records = read_sequences(root, names)
    if predictions is not None:
        find, records = _open(predictions, "mupots", records)
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
            second_look=second_look,
            fuse=fuse,
        )
    frames = with_progress(records, "frames")
    show_report(score_mupots(frames, find, _name(method, predictions, variant)), output)


def agora(
    root: options.DatasetRoot,
    predictions: PredictionFile = None,
    split: Annotated[str, typer.Option(help="train or validation.")] = "validation",
    body_vertices: Annotated[
        Path | None, typer.Option(help="body_verts_smpl.npy; in AGORA's folder by default.")
    ] = None,
    method: Method = None,
    body: options.Body = "smpl",
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Output = None,
) -> None:
    """AGORA, SMPL bodies: NMJE, NMVE, MPJPE, MVE and F1.

    The open body (--body open) has no MVE and NMVE, which are of SMPL's vertices.

    Example: mpmesh evaluate agora --root ../datasets --predictions mine.zip -o agora.json
    """
    from mpmesh_core.datasets import read_dataset
    from mpmesh_core.evaluation.predictions.truths import agora_body_vertices
    from mpmesh_core.evaluation.score_agora import score_agora

    check_output(output)
    chosen = agora_body_vertices(root, body_vertices)
    records = read_dataset("agora", root, split)
    if predictions is not None:
        find, records = _open(predictions, "agora", records, _body(body))
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
            second_look=second_look,
            fuse=fuse,
        )
    frames = with_progress(records, "pictures")
    show_report(score_agora(frames, find, chosen, _name(method, predictions, variant)), output)


def _open(
    path: Path, dataset: str, records: Iterator[FrameRecord], body: BodyModel | None = None
) -> tuple[Find, Iterator[FrameRecord]]:
    """Saved predictions, and the records, which fail in the end if none was predicted."""
    from mpmesh_core.evaluation.predictions import of_these, open_predictions

    found = open_predictions(path, dataset, body)
    return found, of_these(records, dataset, found)


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

    return PipelinePeople(options.load_for_pictures(**values), true_box, meshes)


def _name(method: str | None, predictions: Path | None, variant: str) -> str:
    if method is not None:
        return method
    return f"MPMesh, {variant}" if predictions is None else predictions.name
