"""Real samples of data sets, put into the official layouts.

In   the folder of MPMESH_TEST_DATA (its samples come in other projects' formats), an empty root
Out  `ROOT/FOLDER` as the official archives have it; what the samples lack is left out, or filled
     with the pelvis where a format has no gaps
"""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
from dataset_samples import put, put_mat, put_video
from scipy.spatial.transform import Rotation

from mpmesh_core.datasets.conventions import H36M32, MPI17, MPI28
from mpmesh_core.joints import H36M_JOINTS

Array = np.ndarray
H36M_CAMERAS = ("54138969", "55011271", "58860488", "60457274")


def put_h36m(data: Path, root: Path) -> int:
    """Four frames; the 17 joints of the sample among the 32."""
    from cdflib.cdfwrite import CDF

    source, folder = data / "gt3d/mmpose-h36m", root / "Human3.6M"
    cameras = pickle.loads((source / "cameras.pkl").read_bytes())
    lenses = []
    for name in H36M_CAMERAS:
        c = cameras["S1", name]
        lenses += [*c["f"].ravel(), *c["c"].ravel(), *c["k"].ravel(), *c["p"].ravel()]
    angles = []
    for name in H36M_CAMERAS:
        for subject in range(1, 12):
            c = cameras["S" + str(subject), name]
            turn = Rotation.from_matrix(np.asarray(c["R"])).as_euler("XYZ")
            angles += [*turn, *np.asarray(c["T"]).ravel()]
    text = " ".join(f"{number:.9g}" for number in [*angles, *lenses])
    put(folder / "metadata.xml", f"<metadata><w0>[{text}]</w0></metadata>")
    with np.load(source / "test_h36m_body3d.npz") as file:
        names, joints = file["imgname"], file["S"][..., :3]
    same = {"spine": "spine", "thorax": "thorax", "nose": "nose", "head_top": "head_top"}
    for name, pose in zip(names, joints):
        subject, sequence = str(name).split("/")[:2]
        action, camera = sequence.split("_", 1)[1].replace("_", " ").rsplit(".", 1)
        full = np.repeat(pose[:1], 32, 0)
        for index, joint in enumerate(H36M_JOINTS):
            full[H36M32.index(same.get(joint, joint))] = pose[index]
        stem = f"{action}.{camera}"
        path = folder / subject / "MyPoseFeatures/D3_Positions_mono" / f"{stem}.cdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = CDF(path)
        spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True}
        flat = (full * 1000).reshape(1, 1, 96).astype(np.float32)
        file.write_var(spec | {"Dim_Sizes": [1, 96]}, var_data=flat)
        file.close()
        put_video(
            folder / subject / "Videos" / f"{stem}.mp4", [cv2.imread(str(source / str(name)))]
        )
    return len(names)


def put_3dhp(data: Path, root: Path) -> int:
    """Two frames, extracted; frames before them hold the same pose."""
    source = data / "gt3d/mmpose-mpi3dhp"
    cameras = pickle.loads((source / "cameras_train.pkl").read_bytes())
    with np.load(source / "test_3dhp_train.npz") as file:
        names, joints, pixels = file["imgname"], file["S"][..., :3], file["part"][..., :2]
    for name, pose, px in zip(names, joints, pixels):
        subject, sequence, view, frame = Path(str(name)).stem.split("_")
        folder = root / "MPI-INF-3DHP" / subject / sequence
        index, number = int(view[3:]), int(frame)
        picture = folder / "imageFrames" / f"video_{index}" / f"frame_{frame}.jpg"
        picture.parent.mkdir(parents=True)
        shutil.copyfile(source / str(name), picture)
        cells = {}
        for key, values, scale in (("annot2", px, 1.0), ("annot3", pose, 1000.0)):
            full = np.repeat(values[MPI17.index("pelvis")][None], 28, 0)
            for joint, value in zip(MPI17, values):
                full[MPI28.index(joint)] = value
            cells[key] = np.empty((14, 1), object)
            for row in range(14):
                cells[key][row, 0] = np.tile(full.ravel() * scale, (number, 1))
        put_mat(folder / "annot.mat", **cells)
        rows = []
        for row in range(14):
            usual = f"{subject}_{sequence}_Cam{index}"  # the sample lacks cameras by the ceiling
            c = cameras.get(f"{subject}_{sequence}_Cam{row}", cameras[usual])
            K = np.eye(4)
            K[[0, 1], [0, 1]], K[:2, 2] = np.ravel(c["f"]), np.ravel(c["c"])
            numbers = " ".join(f"{n:.9g}" for n in K.ravel())
            rows.append(
                f"name {row}\n  size 2048 2048\n  intrinsic {numbers}\n  extrinsic 1\n  radial 0\n"
            )
        put(folder / "camera.calibration", "Skeletool Camera Calibration File\n" + "".join(rows))
    return len(names)


def put_panoptic(data: Path, root: Path) -> int:
    """Three moments, five views; the people are triangulated from a network's 2D (no truth)."""
    source = data / "gt3d/mmpose-panoptic/demo"
    folder = root / "CMU-Panoptic/demo"
    views = sorted(place.name for place in source.iterdir() if place.is_dir())
    for name in views:
        shutil.copytree(source / name, folder / "hdImgs" / name)
    shutil.copyfile(source / "camera_parameters.json", folder / "calibration_demo.json")
    found = json.loads((data / "gt3d/panoptic-derived/pseudo_gt_triangulated.json").read_text())
    of_coco = (None, 0, None, 5, 7, 9, 11, 13, 15, 6, 8, 10, 12, 14, 16, 1, 3, 2, 4)
    for moment, people in found["frames"].items():
        bodies = []
        for identity, person in enumerate(people):
            found_joints = [joint or (0.0, 0.0, 0.0) for joint in person["joints17_cm"]]
            joints, rows = np.array(found_joints, float), np.zeros((19, 4))
            sure = np.array(person["nviews"]) >= 3
            sure &= np.nan_to_num(np.array(person["err_px"], float), nan=99) <= 10
            for row, joint in enumerate(of_coco):
                if joint is not None and sure[joint]:
                    rows[row] = *joints[joint], 0.9
                else:
                    rows[row, 3] = -1
            bodies.append({"id": identity, "joints19": rows.ravel().tolist()})
        path = folder / "hdPose3d_stage1_coco19" / f"body3DScene_{moment}.json"
        put(path, json.dumps({"version": 0.7, "bodies": bodies}))
    return len(found["frames"]) * len(views)


def put_coco(data: Path, root: Path) -> int:
    """24 photos with keypoints."""
    content = json.loads((data / "train2d/person_keypoints_derived.json").read_text())
    for image in content["images"]:
        path = data / "train2d/coco128x2" / image["file_name"]
        image["file_name"] = path.name
        target = root / "COCO/train2017" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    put(root / "COCO/annotations/person_keypoints_train2017.json", json.dumps(content))
    return len({row["image_id"] for row in content["annotations"]})


def put_lsp_extended(data: Path, root: Path, count: int) -> int:
    """The first photos with their labels; the rest are without labels, as are those left out."""
    with np.load(data / "train2d/lspet/lspet_labels.npz") as file:
        numbers, labels = file["image_id"][:count], file["joints2d"][:count]
    joints = np.zeros((14, 3, 10000))
    folder = root / "LSP-extended/images"
    folder.mkdir(parents=True)
    with tarfile.open(data / "train2d/lspet/lspet_images.tar") as tar:
        for number, rows in zip(numbers, labels):
            joints[..., number - 1] = rows
            name = f"im{number:05d}.jpg"
            stream = tar.extractfile(name)
            (folder / name).write_bytes(stream.read() if stream else b"")
    put_mat(root / "LSP-extended/joints.mat", joints=joints)
    return len(numbers)
