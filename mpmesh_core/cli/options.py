"""cli.options: options that several commands share, declared once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from mpmesh_core.errors import UsageError

if TYPE_CHECKING:
    from mpmesh_core.pipeline import Pipeline, PipelineConfig
    from mpmesh_core.sources import Source

Backend = Annotated[str, typer.Option(help="auto, tensorrt, torch, onnxruntime or openvino.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Variant = Annotated[str, typer.Option(help="Size of the networks: light or paper.")]
Weights = Annotated[
    Path | None, typer.Option(help="Folder of checkpoints instead of the shipped ones.")
]
DetectorFile = Annotated[
    Path | None, typer.Option(help="ONNX file of another person detector (YOLOv4/X/v8, RTMDet).")
]
Body = Annotated[str, typer.Option(help="open, smpl, or a body file (.npz, .pkl).")]
MaxPeople = Annotated[int, typer.Option(min=1, max=256, help="People a frame, best first.")]
Refine = Annotated[bool, typer.Option("--refine/--no-refine", help="Relation-aware refinement.")]
Mirror = Annotated[bool, typer.Option("--mirror/--no-mirror", help="Read crops in a mirror too.")]
SecondLook = Annotated[
    str,
    typer.Option(
        help="Look again at people who lean or are unclear: on, off, thorough (everybody in a"
        " mirror, unclear and hidden people many times), or auto (CPU without --deadline: thorough"
        " on photos, else on)."
    ),
]
Fuse = Annotated[
    str,
    typer.Option(
        help="Compile the line on a GPU into fewer kernels, minutes for each size: on, off, auto."
    ),
]
DeadlineMs = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        help="Milliseconds for a frame: gives up vertices, refiner, then the farthest people.",
    ),
]
AtOnce = Annotated[
    int,
    typer.Option(
        min=0,
        help="Frames in the line at the same time, on a CPU; 0: one a core where frames wait, one"
        " for cameras and with --deadline.",
    ),
]
DataFolder = Annotated[
    Path, typer.Option(envvar="MPMESH_TEST_DATA", help="Folder of the data; see docs/data.md.")
]
DatasetRoot = Annotated[
    Path,
    typer.Option(
        "--root",
        envvar="MPMESH_DATASETS",
        help="Folder with every data set's folder, or the data set's own.",
    ),
]


SMALLEST = 64  # [px] a side of a picture that is rendered


def picture_size(text: str) -> tuple[int, int]:
    """Width and height that `--size` names.

    Raises:
        UsageError: something else, or too small to render people.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= SMALLEST):
        raise UsageError(
            f"--size {text!r}: give width x height, for example 1920x1080, {SMALLEST} or more each"
        )
    return int(width), int(height)


def load_pipeline(**values: object) -> Pipeline:
    """A pipeline from option values, see `pipeline_config`."""
    from mpmesh_core.pipeline import Pipeline

    return Pipeline(pipeline_config(**values))


def load_for_pictures(**values: object) -> Pipeline:
    """The same for single pictures: nobody is tracked, and there is time to look thoroughly."""
    pipeline = load_pipeline(**values)
    pipeline.start(sequence=False)
    return pipeline


def pipeline_config(**values: object) -> PipelineConfig:
    """Settings from option values; a value that is not possible is wrong usage.

    Raises:
        UsageError: naming the option, the value and what is possible.
    """
    from mpmesh_core.pipeline import PipelineConfig

    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + str(first["loc"][0]).removesuffix("_ms").replace("_", "-")
        raise UsageError(f"{name} {first['input']!r}: {first['msg'].lower()}") from None


def frames_at_once(asked: int, config: PipelineConfig, sources: Sequence[Source]) -> int:
    """What `--at-once` means for these sources."""
    from mpmesh_core.ahead import one_a_core
    from mpmesh_core.engines import choose_backend

    if asked:
        return asked
    _, device = choose_backend(config.backend, config.device)
    live = any(source.kind == "camera" for source in sources)
    if live or device.type != "cpu" or config.deadline_ms is not None:
        return 1
    most = one_a_core()
    longest = max(most if source.length is None else source.length for source in sources)
    return max(1, min(most, longest))


def write_json(path: Path, figures: object) -> None:
    """Write figures, in a folder that is made where missing.

    Raises:
        InputError: the file cannot be written.
    """
    from mpmesh_core.outputs import prepare_folder, write_file

    write_file(prepare_folder(path.parent) / path.name, json.dumps(figures, indent=1).encode())
