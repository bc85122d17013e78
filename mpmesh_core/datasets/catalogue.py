"""datasets.catalogue: which data sets there are, where they lie and where to get them.

A reader is a module with `read(root, split)`, named here and imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import UsageError


@dataclass(frozen=True)
class DatasetInfo:
    """One data set."""

    name: str  # on the command line
    title: str
    folder: str  # under the root
    module: str  # of its reader, in `mpmesh_core.datasets`
    splits: tuple[str, ...]
    labels: str
    licence: str
    page: str  # where to get it


_RESEARCH = "research only"
_ROWS = (
    DatasetInfo(
        "h36m", "Human3.6M", "Human3.6M", "h36m", ("train", "test"), "3D, boxes",
        f"{_RESEARCH}, on request", "http://vision.imar.ro/human3.6m/",
    ),
    DatasetInfo(
        "mpi-inf-3dhp", "MPI-INF-3DHP", "MPI-INF-3DHP", "mpi_inf_3dhp", ("train", "test"),
        "3D, 2D", _RESEARCH, "https://vcai.mpi-inf.mpg.de/3dhp-dataset/",
    ),
    DatasetInfo(
        "lsp", "Leeds Sports Pose", "LSP", "lsp", ("train", "test"), "2D", _RESEARCH,
        "http://sam.johnson.io/research/lsp.html",
    ),
    DatasetInfo(
        "lsp-extended", "Leeds Sports Pose Extended", "LSP-extended", "lsp_extended", ("train",),
        "2D", _RESEARCH, "http://sam.johnson.io/research/lspet.html",
    ),
    DatasetInfo(
        "coco", "COCO keypoints", "COCO", "coco", ("train", "val"), "2D, boxes",
        "annotations CC BY 4.0, photos by Flickr's terms", "https://cocodataset.org/#download",
    ),
    DatasetInfo(
        "mpii", "MPII Human Pose", "MPII", "mpii", ("train",), "2D, boxes from scale",
        "BSD-like for the labels, photos for research", "http://human-pose.mpi-inf.mpg.de/",
    ),
    DatasetInfo(
        "muco", "MuCo-3DHP", "MuCo-3DHP", "muco", ("train",), "3D, 2D, boxes", _RESEARCH,
        "https://github.com/mks0601/3DMPPE_POSENET_RELEASE#data",
    ),
    DatasetInfo(
        "panoptic", "CMU Panoptic Studio", "CMU-Panoptic", "panoptic", ("train", "val"), "3D",
        _RESEARCH, "http://domedb.perception.cs.cmu.edu/",
    ),
    DatasetInfo(
        "sailvos", "SAIL-VOS", "SAIL-VOS", "sailvos", ("train",), "3D, 2D",
        f"{_RESEARCH}; poses on request", "http://sailvos.web.illinois.edu/",
    ),
    DatasetInfo(
        "surreal", "SURREAL", "SURREAL", "surreal", ("train", "val", "test"), "3D, 2D, SMPL",
        f"{_RESEARCH}, on request", "https://www.di.ens.fr/willow/research/surreal/data/",
    ),
    DatasetInfo(
        "aist", "AIST++", "AIST++", "aist", ("train", "val", "test"), "3D, SMPL pose",
        "annotations CC BY 4.0, videos for research",
        "https://google.github.io/aistplusplus_dataset/",
    ),
    DatasetInfo(
        "synthetic", "MPMesh's synthetic scenes", "synthetic", "synthetic", ("train",),
        "3D, 2D, boxes, open body", "yours: `mpmesh train synthesize` makes them",
        "`mpmesh train synthesize output=ROOT/synthetic`",
    ),
    DatasetInfo(
        "3dpw", "3D Poses in the Wild", "3DPW", "threedpw", ("train", "validation", "test"),
        "SMPL, 3D, 2D", _RESEARCH, "https://virtualhumans.mpi-inf.mpg.de/3DPW/",
    ),
    DatasetInfo(
        "mupots", "MuPoTS-3D", "MuPoTS-3D", "mupots", ("test",), "3D, 2D", _RESEARCH,
        "https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson/",
    ),
    DatasetInfo(
        "agora", "AGORA", "AGORA", "agora", ("train", "validation"), "3D, 2D, meshes",
        f"{_RESEARCH}, on request", "https://agora.is.tue.mpg.de/",
    ),
)  # fmt: skip
DATASETS: dict[str, DatasetInfo] = {row.name: row for row in _ROWS}


def dataset_info(name: str) -> DatasetInfo:
    """The data set of a name.

    Raises:
        UsageError: no such data set, with the names that exist.
    """
    if name not in DATASETS:
        raise UsageError(f"no data set {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def place_of(info: DatasetInfo, root: Path) -> Path:
    """Where a data set's folder lies: under the root, or it is the root itself, by its name."""
    inside = root / info.folder
    return root if not inside.is_dir() and root.resolve().name == info.folder else inside


def check_split(info: DatasetInfo, split: str) -> None:
    """Raise a UsageError unless the data set has this split."""
    if split not in info.splits:
        raise UsageError(f"{info.name} has no split {split!r}, only {', '.join(info.splits)}")


def read_dataset(name: str, root: Path | str, split: str | None = None) -> Iterator[FrameRecord]:
    """Frames of a data set, one by one; no picture is opened, except for its size.

    Args:
        name: one of `DATASETS`.
        root: the folder that holds every data set's folder, or the data set's own.
        split: one of its splits; the first where not given.

    Raises:
        UsageError: no such data set or split.
        MissingFileError: the first file that is missing, with the page to get it from.
        InputError: a file that cannot be read.
    """
    info = dataset_info(name)
    split = info.splits[0] if split is None else split
    check_split(info, split)
    reader = import_module(f"mpmesh_core.datasets.{info.module}")
    frames: Iterator[FrameRecord] = reader.read(Path(root), split)
    return frames
