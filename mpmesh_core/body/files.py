"""files: SMPL-format body files, read and checked.

In   a .npz or .pkl with the SMPL keys (v_template, shapedirs, weights, J_regressor, kintree_table,
     f, optionally posedirs), and, in files made by `mpmesh body build`, tip and keypoint
     regressors, the mirror permutation and a `metadata` JSON string
Out  BodyArrays, float64 arrays of checked shapes
Pickles are opened without running any code from them and without chumpy. No torch in here.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.body.pickles import load_smpl_pickle
from mpmesh_core.errors import MissingFileError, UsageError, WeightsError, first_line, refusing
from mpmesh_core.joints import SMPL_PARENTS
from mpmesh_core.paths import expanded
from mpmesh_core.types import Array

OPEN_BODY = Path(__file__).parent.parent / "assets" / "open_body.npz"
GENDERS = ("neutral", "male", "female")
COMPONENTS = 10
KEYS = (
    "v_template", "shapedirs", "posedirs", "weights", "J_regressor", "kintree_table", "f",
    "tip_regressor", "coco17_regressor", "h36m17_regressor", "mirror", "metadata",
)  # fmt: skip

# Vertices of the original SMPL mesh: the five tips in the order of `joints.TIPS`, and the face.
SMPL_VERTICES = 6890
SMPL_TIPS = (411, 2445, 5905, 3216, 6617)
SMPL_FACE = {"nose": 332, "left_eye": 2800, "right_eye": 6260, "left_ear": 583, "right_ear": 4071}
# The other COCO and H36M points as SMPL joints, for want of a better regressor.
COCO_LIMBS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
# Rows of J_regressor_h36m in the order of `joints.H36M_JOINTS`: SMPL's file has the left leg first.
H36M_FILE = (0, 4, 5, 6, 1, 2, 3, *range(7, 17))
H36M_BODY = (0, 2, 5, 8, 1, 4, 7, 6, 12)
H36M_ARMS = (16, 18, 20, 17, 19, 21)


@dataclass(frozen=True)
class BodyArrays:
    """What a body file holds; lengths in metres, body axes x left, y up, z forward."""

    name: str
    v_template: Array  # (V, 3)
    shapedirs: Array  # (V, 3, 10)
    weights: Array  # (V, 24), rows sum to 1
    J_regressor: Array  # (24, V)
    tip_regressor: Array  # (5, V)
    faces: Array  # (F, 3) int64
    posedirs: Array | None = None  # (V, 3, 207), None if the file has no pose correctives
    mirror: Array | None = None  # (V,) int64
    keypoint_regressors: dict[str, Array] = field(default_factory=dict)  # set -> (17, V)
    licence: str = "unknown"
    metadata: dict[str, Any] = field(default_factory=dict)

    def float_arrays(self) -> dict[str, Array]:
        """The arrays that become floating buffers of the model, by buffer name."""
        arrays = {
            "v_template": self.v_template,
            "shapedirs": self.shapedirs,
            "weights": self.weights,
            "J_regressor": self.J_regressor,
            "point_regressor": np.concatenate([self.J_regressor, self.tip_regressor]),
        }
        if self.posedirs is not None:
            arrays["posedirs"] = self.posedirs
        return arrays


def find_body_file(body: str, gender: str = "neutral") -> Path:
    """Path of a body by name.

    Args:
        body: "open", "smpl", or a path to an SMPL-format .npz or .pkl.
        gender: which SMPL file, "neutral", "male" or "female"; the open body has only one.

    Raises:
        UsageError: unknown gender.
        MissingFileError: no such file, with where to get it and where to put it.
    """
    if gender not in GENDERS:
        raise UsageError(f"gender must be one of {', '.join(GENDERS)}, got '{gender}'")
    if body == "open":
        if not OPEN_BODY.is_file():
            raise MissingFileError(f"{OPEN_BODY} is missing: make it with `mpmesh body build`")
        return OPEN_BODY
    if body == "smpl":
        return _find_smpl(gender)
    path = expanded(body)
    if not path.is_file():
        raise MissingFileError(f"no body file {path}: give 'open', 'smpl' or a .npz or .pkl file")
    return path


def smpl_folder() -> Path:
    """Where the user's SMPL files are looked for: $MPMESH_SMPL_DIR or the cache folder."""
    return expanded(os.environ.get("MPMESH_SMPL_DIR", "~/.cache/mpmesh/smpl"))


def read_body_file(path: Path) -> BodyArrays:
    """Read and check an SMPL-format file.

    Args:
        path: .npz, or .pkl as downloaded from smpl.is.tue.mpg.de. A `J_regressor_h36m.npy` beside
            it is used for the Human3.6M joints.

    Raises:
        MissingFileError: no such file.
        WeightsError: not an SMPL-format body, with what is wrong.
    """
    if not path.is_file():
        raise MissingFileError(f"no body file {path}")
    pickled = path.suffix.lower() == ".pkl"
    raw = load_smpl_pickle(path, KEYS) if pickled else _load_npz(path)
    metadata = _metadata(raw, path)
    template = _floats(raw, path, "v_template", (-1, 3))
    count = len(template)
    _check_tree(raw, path)  # before other shapes, which would not say that it is another model
    regressor = _floats(raw, path, "J_regressor", (24, count))
    return BodyArrays(
        name=str(metadata.get("name", path.stem)),
        v_template=template,
        shapedirs=_shape_components(_floats(raw, path, "shapedirs", (count, 3, -1))),
        weights=_floats(raw, path, "weights", (count, 24)),
        J_regressor=regressor,
        tip_regressor=_tips(raw, path, count),
        faces=_vertex_indices(raw, path, "f", (-1, 3), count),
        posedirs=_pose_correctives(raw, path, count),
        mirror=_mirror(raw, path, count),
        keypoint_regressors=_keypoint_regressors(raw, path, regressor),
        licence=str(metadata.get("licence", "the SMPL licence of the file's owner")),
        metadata=metadata,
    )


def _find_smpl(gender: str) -> Path:
    folder = smpl_folder()
    names = [f"SMPL_{gender.upper()}.{ending}" for ending in ("npz", "pkl")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise MissingFileError(
        f"no {names[0]} or {names[1]} in {folder}: SMPL needs a licence of its own, download it "
        "from https://smpl.is.tue.mpg.de and put it there (or set MPMESH_SMPL_DIR), "
        "or use the open body (--body open)"
    )


def _load_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in KEYS if key in file.files}
    except Exception as error:  # damaged archives make the libraries raise almost anything
        reason = type(error).__name__  # numpy's words advise to load it unsafely
        if "pickle" in str(error):
            reason = "it holds Python objects; save J_regressor.toarray(), or give SMPL's own .pkl"
        raise WeightsError(f"{path} is not a readable .npz body file ({reason})") from error


def _metadata(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(str(raw["metadata"])) if "metadata" in raw else {}
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path} has damaged metadata ({error})") from None
    return metadata if isinstance(metadata, dict) else {}


def _array(raw: dict[str, Any], path: Path, key: str, dtype: type[np.generic]) -> Array:
    if key not in raw:
        raise WeightsError(f"{path} is not an SMPL-format body file: it has no '{key}'")
    value = raw[key]
    try:
        with np.errstate(invalid="raise"):
            value = _dense(value) if hasattr(value, "toarray") else np.asarray(value)
            return np.ascontiguousarray(value.astype(dtype, copy=False))
    except Exception as error:  # whatever a damaged file put there
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise WeightsError(f"{path}: '{key}' is no array of numbers ({reason})") from error


def _dense(matrix: Any) -> Array:
    """A SciPy matrix as an array. SciPy trusts the indices, a damaged file would crash Python."""
    array = np.zeros(matrix.shape)
    if matrix.format == "coo":
        at = matrix.row, matrix.col
    else:
        counts = np.diff(matrix.indptr.astype(np.int64))
        if counts.sum() != len(matrix.indices):
            raise ValueError("its index pointers don't fit")
        lines = np.repeat(np.arange(len(counts)), counts)
        at = (lines, matrix.indices) if matrix.format == "csr" else (matrix.indices, lines)
    np.add.at(array, at, matrix.data)
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is the wanted one, in which -1 stands for any number."""
    return len(shape) == len(wanted) and all(n in (-1, have) for n, have in zip(wanted, shape))


def _floats(raw: dict[str, Any], path: Path, key: str, shape: tuple[int, ...]) -> Array:
    value = _array(raw, path, key, np.float64)
    if not _fits(value.shape, shape):
        raise WeightsError(f"{path}: '{key}' must have shape {shape}, got {value.shape}")
    if not np.isfinite(value).all():
        raise WeightsError(f"{path}: '{key}' holds NaN or infinity, the file is damaged")
    return value


def _vertex_indices(
    raw: dict[str, Any], path: Path, key: str, shape: tuple[int, ...], count: int
) -> Array:
    value = _array(raw, path, key, np.int64)
    fits = _fits(value.shape, shape) and value.size > 0
    if not fits or value.min() < 0 or value.max() >= count:
        text = str(shape).replace("-1", "F")
        raise WeightsError(f"{path}: {key} must hold {text} indices of its {count} vertices")
    return value


def _mirror(raw: dict[str, Any], path: Path, count: int) -> Array | None:
    return _vertex_indices(raw, path, "mirror", (count,), count) if "mirror" in raw else None


def _check_tree(raw: dict[str, Any], path: Path) -> None:
    table = _array(raw, path, "kintree_table", np.int64)
    parents = table[0] if table.ndim == 2 else table
    if tuple(parents[1:]) != SMPL_PARENTS[1:]:
        raise WeightsError(
            f"{path}: its {len(parents)} joints are not SMPL's 24 (is it an SMPL-H or -X file?)"
        )


def _shape_components(shapedirs: Array) -> Array:
    """The first ten components; a file with fewer is padded with zeros."""
    missing = max(0, COMPONENTS - shapedirs.shape[2])
    return np.pad(shapedirs[:, :, :COMPONENTS], ((0, 0), (0, 0), (0, missing)))


def _pose_correctives(raw: dict[str, Any], path: Path, count: int) -> Array | None:
    if "posedirs" not in raw:
        return None
    posedirs = _floats(raw, path, "posedirs", (count, 3, 207))
    return posedirs if posedirs.any() else None


def _tips(raw: dict[str, Any], path: Path, count: int) -> Array:
    if "tip_regressor" in raw:
        return _floats(raw, path, "tip_regressor", (5, count))
    if count == SMPL_VERTICES:
        return _one_hot(SMPL_TIPS, count)
    raise WeightsError(
        f"{path} has {count} vertices, not SMPL's {SMPL_VERTICES}, and no 'tip_regressor' (5, V) "
        "for head top, hand tips and toe tips"
    )


def _one_hot(vertices: tuple[int, ...], count: int) -> Array:
    rows = np.zeros((len(vertices), count))
    rows[np.arange(len(vertices)), vertices] = 1
    return rows


def _keypoint_regressors(raw: dict[str, Any], path: Path, joints: Array) -> dict[str, Array]:
    count = joints.shape[1]
    found: dict[str, Array] = {}
    if count == SMPL_VERTICES:
        face = _one_hot(tuple(SMPL_FACE.values()), count)
        head = _one_hot((SMPL_FACE["nose"], SMPL_TIPS[0]), count)
        found["coco17"] = np.concatenate([face, joints[list(COCO_LIMBS)]])
        found["h36m17"] = np.concatenate([joints[list(H36M_BODY)], head, joints[list(H36M_ARMS)]])
    beside = path.parent / "J_regressor_h36m.npy"
    if beside.is_file():
        with refusing(f"{beside} is no regressor of joints"):
            regressor = np.load(beside)
        if regressor.shape == (17, count):
            found["h36m17"] = regressor[list(H36M_FILE)].astype(np.float64)
    for which in ("coco17", "h36m17"):
        if f"{which}_regressor" in raw:
            found[which] = _floats(raw, path, f"{which}_regressor", (17, count))
    return found
