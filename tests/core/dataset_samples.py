"""Tiny data sets in their official layouts, written from people and cameras that are known.

Each writer makes `ROOT/FOLDER` and returns a `Sample`: the truth by joint name, in the camera's
frame, and the pixels it projects to by OpenCV. Pictures show one bright spot, at the left wrist, so
that a test can tell where a label lies in the picture whatever the set's pixels count from.
"""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from mpmesh_core.datasets import conventions as c
from mpmesh_core.joints import COCO_KEYPOINTS, LSP_JOINTS, SMPL_JOINTS

Array = np.ndarray
FRAMES = 3
MARK = "left_wrist"


@dataclass
class Sample:
    """What was written."""

    name: str
    split: str
    convention: str
    joints: list[Array]  # a frame each: (K, 3) [m, camera]
    pixels: list[Array]  # (K, 2), first pixel's centre at (0, 0)
    essential: tuple[str, ...]  # files, from the root, without which nothing works
    rounded: float = 0.02  # [px] that the set's own 2D labels may be off


@dataclass
class View:
    """A camera and what it sees."""

    K: Array
    D: Array
    width: int
    height: int
    R: Array  # camera from world
    t: Array  # [m]

    def pixels(self, joints: Array) -> Array:
        """(K, 2) of joints (K, 3) in the camera's frame."""
        return cv2.projectPoints(joints, np.zeros(3), np.zeros(3), self.K, self.D)[0][:, 0]

    def world(self, joints: Array) -> Array:
        """(K, 3) in the world of joints in the camera's frame."""
        return (joints - self.t) @ self.R


def view(width: int, height: int, focal: float, D: tuple[float, ...] = ()) -> View:
    K = np.array([[focal, 0, width / 2 - 3.3], [0, focal * 1.01, height / 2 + 2.2], [0, 0, 1]])
    R = Rotation.from_euler("xyz", (0.3, -0.5, 2.0)).as_matrix()
    return View(K, np.array(D), width, height, R, np.array([0.3, -0.2, 2.0]))


LENS = (-0.2, 0.24, -0.001, 0.0015, -0.003)


def joints(names: tuple[str, ...], frame: int, x: float = 0.0, z: float = 3.6) -> Array:
    """(K, 3) [m]: each name has its place, everything moves on by 4 cm a frame."""
    rows = []
    for name in names:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        rows.append(rng.uniform((-0.4, -0.6, -0.3), (0.4, 0.6, 0.3)))
    return np.array(rows) + (x + 0.04 * frame, 0.05, z)


def spot(width: int, height: int, u: float, v: float) -> Array:
    """(H, W, 3) uint8 with a spot at an exact place."""
    x, y = (np.arange(side, dtype=np.float32) - at for side, at in ((width, u), (height, v)))
    bright = np.outer(230 * np.exp(-(y**2) / (2 * 4.0**2)), np.exp(-(x**2) / (2 * 4.0**2)))
    return np.repeat(bright.round().astype(np.uint8)[..., None], 3, 2)


def put(path: Path, content: bytes | str | Array) -> Path:
    """Write bytes, text or a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        quality = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix == ".jpg" else []
        cv2.imwrite(str(path), content, quality)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_video(path: Path, pictures: list[Array]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter_fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    size = pictures[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), code, 25, size)
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def put_mat(path: Path, compress: bool = True, **content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content, do_compression=compress)
    return path


def people(names: tuple[str, ...], camera: View) -> tuple[list[Array], list[Array], list[Array]]:
    """Joints, pixels and pictures of all frames."""
    poses = [joints(names, frame) for frame in range(FRAMES)]
    pixels = [camera.pixels(pose) for pose in poses]
    mark = names.index(MARK) if MARK in names else 0
    pictures = [spot(camera.width, camera.height, *px[mark]) for px in pixels]
    return poses, pixels, pictures


def write_h36m(root: Path) -> Sample:
    from cdflib.cdfwrite import CDF

    camera = view(1000, 1002, 1145.0, LENS)
    poses, pixels, pictures = people(c.H36M32, camera)
    folder = root / "Human3.6M"
    fx, cx, fy, cy = camera.K[0, 0], camera.K[0, 2], camera.K[1, 1], camera.K[1, 2]
    k1, k2, p1, p2, k3 = camera.D
    numbers = [0.1] * 264 + [fx, fy, cx, cy, k1, k2, k3, p1, p2] * 4
    text = " ".join(f"{number:.9g}" for number in numbers)
    put(folder / "metadata.xml", f"<metadata><w0>[{text}]</w0></metadata>")
    cdf = folder / "S1/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf"
    cdf.parent.mkdir(parents=True)
    file = CDF(cdf, cdf_spec={"Compressed": 0})
    flat = (np.stack(poses) * 1000).reshape(1, FRAMES, 96).astype(np.float32)
    spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True}
    file.write_var(spec | {"Dim_Sizes": [FRAMES, 96]}, var_data=flat)
    file.close()
    video = put_video(folder / "S1/Videos/Directions 1.54138969.mp4", pictures)
    needed = ("Human3.6M/metadata.xml", str(video.relative_to(root)))
    return Sample("h36m", "train", "h36m32", poses, pixels, (*needed, str(cdf.relative_to(root))))


def write_3dhp(root: Path) -> Sample:
    camera = view(512, 512, 700.0)
    poses, pixels, pictures = people(c.MPI28, camera)
    folder = root / "MPI-INF-3DHP/S1/Seq1"
    put_video(folder / "imageSequence/video_0.avi", pictures)
    cells = {}
    for name, values, scale in (("annot2", pixels, 1.0), ("annot3", poses, 1000.0)):
        cells[name] = np.empty((14, 1), object)
        for index in range(14):
            cells[name][index, 0] = (np.stack(values) * scale).reshape(FRAMES, -1)
    put_mat(folder / "annot.mat", **cells)
    K = np.eye(4)
    K[:3, :3] = camera.K
    rows = [
        f"name          {index}\n  sensor      10 10\n  size        512 512\n  animated    0\n"
        f"  intrinsic   {' '.join(f'{n:.9g}' for n in K.ravel())} \n"
        f"  extrinsic   {' '.join('0' for _ in range(16))} \n  radial      0\n"
        for index in range(14)
    ]
    put(folder / "camera.calibration", "Skeletool Camera Calibration File V1.0\n" + "".join(rows))
    inner = "MPI-INF-3DHP/S1/Seq1/"
    needed = (
        inner + "annot.mat",
        inner + "camera.calibration",
        inner + "imageSequence/video_0.avi",
    )
    return Sample("mpi-inf-3dhp", "train", "mpi28", poses, pixels, needed)


def write_3dhp_test(root: Path) -> Sample:
    import h5py

    camera = view(2048, 2048, 1500.0)
    f, scale = 7.32506, 204.8
    camera.K = np.array(
        [[f * scale, 0, 4.9677116 * scale], [0, f * scale * 1.00044, 5.0929296 * scale * 1.00044]]
        + [[0, 0, 1]]
    )
    poses, pixels, _ = people(c.MPI17, camera)
    folder = root / "MPI-INF-3DHP/mpi_inf_3dhp_test_set/TS1"
    folder.mkdir(parents=True)
    with h5py.File(folder / "annot_data.mat", "w") as file:
        file["annot2"] = np.stack(pixels)[:, None]
        file["annot3"] = np.stack(poses)[:, None] * 1000
        file["univ_annot3"] = np.stack(poses)[:, None] * 1000
        file["valid_frame"] = np.array([[1.0], [0.0], [1.0]])
    for index in (0, 2):  # the middle frame isn't valid
        mark = pixels[index][c.MPI17.index(MARK)]
        put(folder / f"imageSequence/img_{index + 1:06d}.jpg", spot(2048, 2048, *mark))
    inner = "MPI-INF-3DHP/mpi_inf_3dhp_test_set/TS1/"
    needed = (inner + "annot_data.mat", inner + "imageSequence/img_000003.jpg")
    return Sample("mpi-inf-3dhp", "test", "mpi17", poses[::2], pixels[::2], needed)


def _flat(names: tuple[str, ...]) -> tuple[list[Array], list[Array]]:
    _, pixels, pictures = people(names, view(320, 240, 200.0))
    return pixels, pictures


def write_lsp(root: Path) -> Sample:
    pixels, pictures = _flat(LSP_JOINTS)
    stored = np.zeros((3, 14, 2 * FRAMES))
    for index, (px, picture) in enumerate(zip(pixels, pictures)):
        stored[:2, :, index] = px.T
        put(root / f"LSP/images/im{index + 1:04d}.jpg", picture)
    put_mat(root / "LSP/joints.mat", joints=stored)
    needed = ("LSP/joints.mat", "LSP/images/im0002.jpg")
    return Sample("lsp", "train", "lsp14", [], pixels, needed)


def write_lsp_extended(root: Path) -> Sample:
    pixels, pictures = _flat(LSP_JOINTS)
    stored = np.ones((14, 3, FRAMES))
    for index, (px, picture) in enumerate(zip(pixels, pictures)):
        stored[:, :2, index] = px
        put(root / f"LSP-extended/images/im{index + 1:05d}.jpg", picture)
    stored[0] = [[-38], [-48], [0]]  # an ankle without a label
    for px in pixels:
        px[0] = np.nan
    put_mat(root / "LSP-extended/joints.mat", joints=stored)
    needed = ("LSP-extended/joints.mat", "LSP-extended/images/im00001.jpg")
    return Sample("lsp-extended", "train", "lsp14", [], pixels, needed)


def write_coco(root: Path) -> Sample:
    pixels, pictures = _flat(COCO_KEYPOINTS)
    images, rows = [], []
    for index, (px, picture) in enumerate(zip(pixels, pictures)):
        name = f"{index + 139:012d}.jpg"
        put(root / "COCO/train2017" / name, picture)
        images.append({"id": index + 139, "file_name": name, "width": 320, "height": 240})
        low, high = px.min(0) - 4, px.max(0) + 4
        box = [*(low + 0.5).tolist(), *(high - low).tolist()]
        flat = np.column_stack((px, np.full(17, 1 + index % 2))).ravel().tolist()
        rows.append({"image_id": index + 139, "keypoints": flat, "bbox": box, "iscrowd": 0})
    crowd = {"image_id": 139, "keypoints": [0] * 51, "bbox": [10, 20, 30, 40], "iscrowd": 1}
    content = {"images": images, "annotations": [*rows, crowd]}
    file = put(root / "COCO/annotations/person_keypoints_train2017.json", json.dumps(content))
    needed = (str(file.relative_to(root)), "COCO/train2017/000000000140.jpg")
    return Sample("coco", "train", "coco17", [], pixels, needed)


def struct(rows: list[dict[str, object]]) -> Array:
    """A MATLAB struct array."""
    array = np.empty(len(rows), [(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        array[index] = tuple(row.values())
    return array


def write_mpii(root: Path) -> Sample:
    pixels, pictures = _flat(c.MPII16)
    rows = []
    for index, (px, picture) in enumerate(zip(pixels, pictures)):
        name = f"{index:09d}.jpg"
        put(root / "MPII/images" / name, picture)
        marks = [{"x": u + 1, "y": v + 1, "id": i} for i, (u, v) in enumerate(px)]
        middle = (px.min(0) + px.max(0)) / 2 + 1
        person = {
            "annopoints": {"point": struct(marks)},
            "scale": np.ptp(px, axis=0).max() * 1.2 / 200,
            "objpos": {"x": middle[0], "y": middle[1]},
        }
        rows.append({"image": {"name": name}, "annorect": struct([person])})
    rows.append({"image": {"name": "absent.jpg"}, "annorect": np.zeros((0, 0))})
    trains = np.array([1] * FRAMES + [0])
    put_mat(
        root / "MPII/mpii_human_pose_v1_u12_1.mat",
        RELEASE={"annolist": struct(rows), "img_train": trains},
    )
    needed = ("MPII/mpii_human_pose_v1_u12_1.mat", "MPII/images/000000001.jpg")
    return Sample("mpii", "train", "mpii16", [], pixels, needed, rounded=1e-3)


def write_muco(root: Path) -> Sample:
    camera = view(512, 512, 700.0)
    poses, pixels, pictures = people(c.MUCO21, camera)
    images, rows = [], []
    for index, (pose, px, picture) in enumerate(zip(poses, pixels, pictures)):
        name = f"unaugmented_set/00/{index:04d}.jpg"
        put(root / "MuCo-3DHP" / name, picture)
        K = camera.K
        images.append(
            {
                "id": index, "file_name": name, "width": 512, "height": 512,
                "f": [K[0, 0], K[1, 1]], "c": [K[0, 2], K[1, 2]],
            }
        )  # fmt: skip
        low, high = px.min(0) - 5, px.max(0) + 5
        rows.append(
            {
                "image_id": index, "keypoints_cam": (pose * 1000).tolist(),
                "keypoints_img": px.tolist(), "keypoints_vis": [True] * 21,
                "bbox": [*low.tolist(), *(high - low).tolist()],
            }
        )  # fmt: skip
    content = {"images": images, "annotations": rows}
    put(root / "MuCo-3DHP/MuCo-3DHP.json", json.dumps(content))
    needed = ("MuCo-3DHP/MuCo-3DHP.json", "MuCo-3DHP/unaugmented_set/00/0001.jpg")
    return Sample("muco", "train", "muco21", poses, pixels, needed)


def write_panoptic(root: Path) -> Sample:
    camera = view(960, 540, 800.0, LENS)
    poses, pixels, pictures = people(c.PANOPTIC19, camera)
    name = "171204_pose1"
    folder = root / "CMU-Panoptic" / name
    one = {
        "name": "00_03", "type": "hd", "resolution": [960, 540], "K": camera.K.tolist(),
        "distCoef": list(LENS), "R": camera.R.tolist(), "t": (camera.t[:, None] * 100).tolist(),
    }  # fmt: skip
    vga = one | {"name": "01_01", "type": "vga"}
    put(folder / f"calibration_{name}.json", json.dumps({"cameras": [vga, one]}))
    for index, (pose, picture) in enumerate(zip(poses, pictures)):
        put(folder / f"hdImgs/00_03/00_03_{index:08d}.jpg", picture)
        rows = np.column_stack((camera.world(pose) * 100, np.full(19, 0.6)))
        body = {"id": 7, "joints19": rows.ravel().tolist()}
        path = folder / f"hdPose3d_stage1_coco19/body3DScene_{index:08d}.json"
        put(path, json.dumps({"version": 0.7, "bodies": [body]}))
    inner = f"CMU-Panoptic/{name}/"
    needed = (inner + f"calibration_{name}.json", inner + "hdPose3d_stage1_coco19")
    return Sample("panoptic", "train", "panoptic19", poses, pixels, (*needed, inner + "hdImgs"))


def write_sailvos(root: Path) -> Sample:
    from mpmesh_core.datasets.sailvos import BONES

    width, height = 640, 400
    camera = view(width, height, 500.0)
    camera.K = np.array([[500.0, 0, 319.5], [0, 500.0, 199.5], [0, 0, 1]])
    camera.t += (900.0, -1300.0, 40.0)  # the game's world is wide
    poses, pixels, pictures = people(c.SAILVOS26, camera)
    folder = root / "SAIL-VOS/ah_1_mcs_1"
    for index, (pose, px, picture) in enumerate(zip(poses, pixels, pictures)):
        put(folder / f"images/{index:06d}.bmp", picture)
        flat, deep = np.full((360, 2), -1280.0), np.zeros((360, 3))
        for joint, rows in enumerate(BONES):
            flat[rows[-1]] = px[joint] + 0.5  # the other rows of a joint are unknown
            deep[rows[-1]] = camera.world(pose)[joint]
        for kind, values in (("2d", flat), ("3d", deep)):
            path = folder / f"12_Ped_a_m/{index:06d}_{kind}.txt"
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, values, fmt="%.6f")
    inner = "SAIL-VOS/ah_1_mcs_1/"
    needed = (inner + "images/000001.bmp", inner + "12_Ped_a_m/000001_3d.txt")
    return Sample("sailvos", "train", "sailvos26", poses, pixels, needed)


SURREAL_AXES = np.array([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]])  # camera from world, a mirror


def write_surreal(root: Path) -> Sample:
    camera = view(320, 240, 600.0)
    camera.K = np.array([[600.0, 0, 159.5], [0, 600, 119.5], [0, 0, 1]])
    names = SMPL_JOINTS
    poses = [joints(names, frame, z=7.0) for frame in range(FRAMES)]
    pixels = [camera.pixels(pose) for pose in poses]
    pictures = [spot(320, 240, *px[names.index(MARK)]) for px in pixels]
    eye = np.array([6.7, -0.98, -1.9])
    twin = {"left": "right", "right": "left"}
    swap = [names.index("_".join(twin.get(w, w) for w in n.split("_"))) for n in names]
    world = np.stack(poses) @ SURREAL_AXES + eye  # axes is orthogonal: its inverse is its transpose
    stem = root / "SURREAL/cmu/train/run0/01_01/01_01_c0001"
    rng = np.random.default_rng(3)
    put_mat(
        stem.with_name(stem.name + "_info.mat"),
        joints3D=world[:, swap].transpose(2, 1, 0).astype(np.float32),
        joints2D=np.stack([np.round(px + 0.5) for px in pixels])[:, swap].transpose(2, 1, 0),
        pose=rng.normal(0, 0.3, (72, FRAMES)),
        shape=rng.normal(0, 1, (10, FRAMES)),
        zrot=np.full((FRAMES, 1), 0.7),
        gender=np.ones((FRAMES, 1), np.uint8),
        camLoc=eye[:, None],
    )
    put_video(stem.with_suffix(".mp4"), pictures)
    needed = tuple(str(stem.relative_to(root)) + end for end in ("_info.mat", ".mp4"))
    return Sample("surreal", "train", "smpl24", poses, pixels, needed, rounded=0.75)


def write_aist(root: Path) -> Sample:
    camera = view(640, 360, 500.0, LENS)
    poses, pixels, pictures = people(COCO_KEYPOINTS, camera)
    folder, name = root / "AIST++", "gBR_sBM_cAll_d04_mBR0_ch01"
    setting = {
        "name": "c01", "size": [640, 360], "matrix": camera.K.tolist(),
        "rotation": Rotation.from_matrix(camera.R).as_rotvec().tolist(),
        "translation": (camera.t * 100).tolist(), "distortions": list(LENS),
    }  # fmt: skip
    put(folder / "cameras/setting1.json", json.dumps([setting]))
    put(folder / "cameras/mapping.txt", f"{name} setting1\n")
    put(folder / "ignore_list.txt", "gBR_sBM_cAll_d04_mBR0_ch99\n")
    put(folder / "splits/pose_train.txt", f"{name}\n")
    world = np.stack([camera.world(pose) for pose in poses])
    content = {"keypoints3d": world * 100, "keypoints3d_optim": world * 100}
    put(folder / f"keypoints3d/{name}.pkl", pickle.dumps(content))
    motion = {
        "smpl_poses": np.random.default_rng(1).normal(0, 0.3, (FRAMES, 72)),
        "smpl_scaling": np.array([93.0]),
        "smpl_trans": world.mean(1) * 100,
        "smpl_loss": np.float64(0.1),
    }
    put(folder / f"motions/{name}.pkl", pickle.dumps(motion))
    put_video(folder / "videos/gBR_sBM_c01_d04_mBR0_ch01.mp4", pictures)
    inner = ("cameras/mapping.txt", "cameras/setting1.json", f"keypoints3d/{name}.pkl", "videos")
    needed = tuple(f"AIST++/{path}" for path in (*inner, "splits/pose_train.txt"))
    return Sample("aist", "train", "coco17", poses, pixels, needed)


WRITERS: dict[str, Callable[[Path], Sample]] = {
    "h36m": write_h36m,
    "3dhp": write_3dhp,
    "3dhp-test": write_3dhp_test,
    "lsp": write_lsp,
    "lsp-extended": write_lsp_extended,
    "coco": write_coco,
    "mpii": write_mpii,
    "muco": write_muco,
    "panoptic": write_panoptic,
    "sailvos": write_sailvos,
    "surreal": write_surreal,
    "aist": write_aist,
}
NEEDS = {"h36m": "cdflib", "3dhp-test": "h5py"}
