"""What fused kernels would gain between the networks: `python benchmarks/fusion.py --people 16`.

On a GPU the line's mathematics is many small kernels. This traces it part by part (`pose`:
skeletons to the refiner's inputs, `people`: refined poses to people), lets Inductor fuse it, and
compares time (on a GPU as graphs) and result with the kernels one by one. `--products` writes
products with a short inner side as sums, which fuse too. Compiling takes a minute or more; it needs
Triton on a GPU and a C++ compiler on a CPU.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch._inductor import metrics
from torch._inductor.compile_fx import compile_fx
from torch.fx.experimental.proxy_tensor import make_fx

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.crop import CropCameras, look_at
from mpmesh_core.doubles import distinct
from mpmesh_core.evaluation.latency import spread_boxes
from mpmesh_core.mirror import read_crops
from mpmesh_core.people import describe
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.pose import absolute_points, onto_picture, solve_pose, stand
from mpmesh_core.refine import nearest_context, pose6d_from_rotations, rotations_from_pose6d
from mpmesh_core.transfer import pack
from mpmesh_core.types import Skeletons
from mpmesh_core.warp import warp_crops

CAMERA = Camera.from_fov(1920, 1080)
SMALL = ("points3d", "points2d", "confidence", "twist", "betas")
Part = Callable[..., list[Tensor]]


def pose(body: BodyModel, boxes: Tensor, K: Tensor, R: Tensor, ok: Tensor, *small: Tensor) -> list:
    """Skeletons to the refiner's inputs."""
    crops, skeletons = CropCameras(K, R, 256, ok), _skeletons(small)
    one_each = distinct(boxes, skeletons, crops)
    points = absolute_points(skeletons, crops)
    ik = solve_pose(points, skeletons, body)
    roots = torch.where((one_each & ok).unsqueeze(1), points[:, 0], torch.nan)
    context, valid = nearest_context((R.mT @ roots.unsqueeze(-1)).squeeze(-1), 3)
    return [one_each, ik.rotations, pose6d_from_rotations(ik.rotations), context, valid]


def people(
    body: BodyModel,
    K: Tensor,
    R: Tensor,
    ok: Tensor,
    unrefined: Tensor,
    pose6d: Tensor,
    *small: Tensor,
) -> list:
    """Refined poses to people."""
    crops, skeletons = CropCameras(K, R, 256, ok), _skeletons(small)
    betas, focal = skeletons.betas, float(CAMERA.K[0, 0])
    turned = rotations_from_pose6d(pose6d, unrefined)
    turned = onto_picture(turned, betas, skeletons, crops, body)
    bodies, placed = stand(turned, betas, skeletons, crops, body, focal)
    return [pack(describe(body, bodies, skeletons, CAMERA) | {"placed": placed})]


def _skeletons(small: tuple[Tensor, ...]) -> Skeletons:
    nothing = small[0].new_zeros(0)
    return Skeletons(**dict(zip(SMALL, small)), features=nothing, heatmaps=nothing)


def sums_for_products(longest: int) -> dict:
    """Decompositions of products whose inner side is at most so long."""
    aten = torch.ops.aten

    def bmm(a: Tensor, b: Tensor) -> Tensor:
        if a.shape[2] > longest:
            return NotImplemented
        return (a.unsqueeze(-1) * b.unsqueeze(1)).sum(2)

    def mm(a: Tensor, b: Tensor) -> Tensor:
        if a.shape[1] > longest:
            return NotImplemented
        return (a.unsqueeze(-1) * b.unsqueeze(0)).sum(1)

    return {aten.bmm.default: bmm, aten.mm.default: mm} if longest else {}


def milliseconds(work: Callable[[], object], device: torch.device, runs: int = 30) -> float:
    """Median time of one call; on a GPU of one replay."""
    for _ in range(3):
        work()
    times = []
    if device.type == "cuda":
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        work = graph.replay
    for _ in range(runs):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[runs // 2]


def compare(name: str, part: Part, inputs: list[Tensor], longest: int) -> None:
    """Print one part's times and largest difference."""
    start = time.perf_counter()
    graph = make_fx(part, decomposition_table=sums_for_products(longest))(*inputs)
    metrics.reset()
    fused = compile_fx(graph, inputs)
    found, expected = fused(*inputs), part(*inputs)
    seconds = time.perf_counter() - start
    worst = max(
        float((a.float() - b.float()).nan_to_num().abs().max()) for a, b in zip(found, expected)
    )
    device = inputs[0].device
    before, after = (milliseconds(partial(work, *inputs), device) for work in (part, fused))
    print(
        f"{name}: {before:.3f} ms, fused {after:.3f} ms, {metrics.generated_kernel_count} kernels "
        f"of {len(graph.graph.nodes)} operations, compiled in {seconds:.0f} s, differs {worst:.2g}",
        flush=True,
    )


@torch.no_grad()
def main() -> None:
    """Compare the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--products", type=int, default=4, help="longest inner side; 0: none")
    parser.add_argument("--parts", default="pose,people")
    options = parser.parse_args()
    pipeline = Pipeline(PipelineConfig(backend="torch", device=options.device, track=False))
    device = pipeline.device
    torch.set_num_threads(1)  # as `threads.one_thread`; only matters on a CPU
    boxes = torch.from_numpy(spread_boxes(options.people, CAMERA.width, CAMERA.height)).to(device)
    crops = look_at(boxes, CAMERA)
    shape = CAMERA.height, CAMERA.width, 3
    picture = torch.randint(0, 255, shape, dtype=torch.uint8, device=device)
    read = read_crops(pipeline.skeleton, warp_crops(picture, CAMERA, crops))
    small = [getattr(read, name).clone() for name in SMALL]
    cameras = [crops.K, crops.R_crop_cam, crops.ok]
    first = partial(pose, pipeline.body)
    _, rotations, pose6d, *_ = first(boxes, *cameras, *small)
    parts: dict[str, tuple[Part, list[Tensor]]] = {
        "pose": (first, [boxes, *cameras, *small]),
        "people": (partial(people, pipeline.body), [*cameras, rotations, pose6d, *small]),
    }
    for name in options.parts.split(","):
        try:
            compare(name, *parts[name], options.products)
        except Exception:
            traceback.print_exc()


if __name__ == "__main__":
    main()
