"""Readers of data sets, on tiny ones in the official layouts with known people and cameras."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_samples import (
    FRAMES,
    MARK,
    NEEDS,
    SURREAL_AXES,
    WRITERS,
    Sample,
    put_mat,
    put_video,
    view,
)
from scipy.spatial.transform import Rotation

from mpmesh_core.body import load_body
from mpmesh_core.camera import Camera
from mpmesh_core.datasets import DATASETS, FrameRecord, Picture, read_dataset
from mpmesh_core.datasets.conventions import CONVENTIONS, H36M32
from mpmesh_core.datasets.h36m import _Cameras
from mpmesh_core.datasets.pictures import PictureReader, picture_size
from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.training.dataset_people import every, rotations_of
from mpmesh_core.training.scene import PersonTruth, Scene, write_shard

Array = np.ndarray


@pytest.fixture(scope="module", params=list(WRITERS))
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sample, list[FrameRecord]]:
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    root = tmp_path_factory.mktemp(request.param)
    sample = WRITERS[request.param](root)
    return sample, list(read_dataset(sample.name, root, sample.split))


Written = tuple[Sample, list[FrameRecord]]


class TestEverySet:
    """Axes, units and pixels of every set."""

    def test_frames_in_order(self, written: Written) -> None:
        sample, records = written
        assert len(records) == len(sample.pixels)
        assert all(record.dataset == sample.name for record in records)
        numbers = [record.number for record in records]
        assert numbers == sorted(numbers)

    def test_3d_in_metres_in_the_camera_frame(self, written: Written) -> None:
        sample, records = written
        for record, joints in zip(records, sample.joints):
            points = record.people[0].points3d[sample.convention]
            assert np.abs(points[:, :3] - joints).max() < 1e-3
            assert (points[:, 3] > 0).all()

    def test_3d_projects_to_the_pixels_of_another_implementation(self, written: Written) -> None:
        sample, records = written
        for record, pixels in zip(records, sample.pixels):
            if sample.joints:
                assert record.camera is not None
                points = record.people[0].points3d[sample.convention][:, :3]
                projected = record.camera.project(points.astype(np.float64))
                assert np.abs(projected - pixels).max() < 0.05

    def test_2d_labels(self, written: Written) -> None:
        sample, records = written
        for record, pixels in zip(records, sample.pixels):
            labels = record.people[0].points2d.get(sample.convention)
            if labels is not None:
                known = np.isfinite(pixels).all(1)
                assert np.array_equal(labels[:, 2] > 0, known)
                assert np.abs(labels[known, :2] - pixels[known]).max() < sample.rounded

    def test_labels_lie_on_the_spot_in_the_picture(self, written: Written) -> None:
        sample, records = written
        reader, mark = PictureReader(), CONVENTIONS[sample.convention].names.index(MARK)
        for record, pixels in zip(records, sample.pixels):
            picture = reader.of(record).astype(np.float64)[..., 1]
            u, v = pixels[mark]
            x, y = np.arange(picture.shape[1]), np.arange(picture.shape[0])
            near = (np.abs(y - v) < 12)[:, None] & (np.abs(x - u) < 12)
            bright = np.where(near & (picture > 12), picture, 0)
            centre = np.array([(bright.sum(0) * x).sum(), (bright.sum(1) * y).sum()])
            assert np.abs(centre / bright.sum() - (u, v)).max() < 0.35

    def test_size_of_the_picture(self, written: Written) -> None:
        _, records = written
        picture = PictureReader().read(records[0].picture)
        assert picture.shape == (records[0].height, records[0].width, 3)

    def test_box_holds_the_person(self, written: Written) -> None:
        sample, records = written
        for record, pixels in zip(records, sample.pixels):
            box = record.people[0].box
            known = pixels[np.isfinite(pixels).all(1)]
            assert (known >= box[:2] - 0.6).all()
            assert (known <= box[2:] + 0.6).all()
            assert (box[2:] - box[:2] < 2.5 * np.ptp(known, axis=0).max()).all()

    def test_frames_of_a_video_are_the_right_ones(self, written: Written) -> None:
        _, records = written
        backwards = [PictureReader().read(record.picture) for record in reversed(records)]
        reader = PictureReader()
        forwards = [reader.read(record.picture) for record in records]
        for one, other in zip(forwards, reversed(backwards)):
            assert np.array_equal(one, other)


def _only(records: list[FrameRecord]) -> FrameRecord:
    assert len(records) == 1
    return records[0]


class TestSets:
    """What one set alone has."""

    def test_coco_crowds_and_hidden_keypoints(self, tmp_path: Path) -> None:
        WRITERS["coco"](tmp_path)
        first = next(read_dataset("coco", tmp_path, "train"))
        person, crowd = first.people
        assert not person.crowd
        assert crowd.crowd
        assert not crowd.points2d
        assert crowd.box.tolist() == [9.5, 19.5, 39.5, 59.5]

    def test_lsp_splits_in_half(self, tmp_path: Path) -> None:
        WRITERS["lsp"](tmp_path)
        with pytest.raises(MissingFileError, match="im0004"):
            list(read_dataset("lsp", tmp_path, "test"))

    def test_panoptic_identity_and_confidence(self, tmp_path: Path) -> None:
        WRITERS["panoptic"](tmp_path)
        person = next(read_dataset("panoptic", tmp_path, "train")).people[0]
        assert person.identity == 7
        assert person.points3d["panoptic19"][0, 3] == pytest.approx(0.6)
        assert not list(read_dataset("panoptic", tmp_path, "val"))

    def test_3dhp_extracted_frames_count_from_one(self, tmp_path: Path) -> None:
        sample = WRITERS["3dhp"](tmp_path)
        folder = tmp_path / "MPI-INF-3DHP/S1/Seq1"
        video = folder / "imageSequence/video_0.avi"
        (folder / "imageFrames/video_0").mkdir(parents=True)
        (folder / "imageFrames/video_0/frame_000003.jpg").touch()
        video.unlink()
        record = _only(list(read_dataset(sample.name, tmp_path, "train")))
        assert record.number == 2

    def test_h36m_box_of_the_mask(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        pytest.importorskip("cdflib")
        WRITERS["h36m"](tmp_path)
        path = tmp_path / "Human3.6M/S1/MySegmentsMat/ground_truth_bb/Directions 1.54138969.mat"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            masks = file.create_dataset("Masks", (FRAMES, 1), h5py.ref_dtype)
            for frame in range(FRAMES):
                mask = np.zeros((1000, 1002), np.uint8)  # columns first, as MATLAB writes
                mask[300 + frame : 601, 200:901] = 1
                masks[frame, 0] = file.create_dataset(f"#refs#/{frame}", data=mask).ref
        records = list(read_dataset("h36m", tmp_path, "train"))
        assert records[2].people[0].box.tolist() == [302, 200, 600, 900]

    def test_h36m_without_the_broken_video(self, tmp_path: Path) -> None:
        """Nobody's copy of it plays, and some have thrown it away."""
        pytest.importorskip("cdflib")
        WRITERS["h36m"](tmp_path)
        folder = tmp_path / "Human3.6M"
        (folder / "S1").rename(folder / "S11")
        for path in list(folder.glob("S11/**/Directions 1.*")):
            for camera in ("54138969", "55011271"):
                shutil.copyfile(path, path.with_name(f"Directions.{camera}{path.suffix}"))
        (folder / "S11/Videos/Directions.54138969.mp4").unlink()
        names = {record.sequence for record in read_dataset("h36m", tmp_path, "test")}
        assert names == {"S11/Directions 1.54138969", "S11/Directions.55011271"}

    def test_h36m_shift_of_s9(self, tmp_path: Path) -> None:
        pytest.importorskip("cdflib")
        WRITERS["h36m"](tmp_path)
        folder = tmp_path / "Human3.6M"
        (folder / "S1").rename(folder / "S9")
        plain = next(read_dataset("h36m", tmp_path, "test")).people[0].points3d["h36m32"]
        for path in list(folder.glob("S9/**/Directions 1.*")):
            path.rename(path.with_name(path.name.replace("Directions 1", "Greeting")))
        moved = next(read_dataset("h36m", tmp_path, "test")).people[0].points3d["h36m32"]
        R = _Cameras(folder / "metadata.xml").world_to_camera("54138969", 9)
        turned = Rotation.from_euler("x", 0.1) * Rotation.from_euler("y", 0.1)
        assert np.allclose(R, (turned * Rotation.from_euler("z", 0.1)).as_matrix())
        assert np.allclose(moved[:, :3] - plain[:, :3], R @ (-0.2, 0, 0), atol=1e-5)

    def test_sailvos_keeps_2d_where_no_camera_fits(self, tmp_path: Path) -> None:
        WRITERS["sailvos"](tmp_path)
        path = tmp_path / "SAIL-VOS/ah_1_mcs_1/12_Ped_a_m/000000_2d.txt"
        pixels = np.loadtxt(path)
        known = pixels[:, 0] != -1280
        pixels[known] = pixels[known][::-1]
        np.savetxt(path, pixels)
        bad, good, _ = read_dataset("sailvos", tmp_path, "train")
        assert bad.camera is None
        assert not bad.people[0].points3d
        assert bad.people[0].points2d
        assert good.camera is not None

    def test_aist_pelvis(self, tmp_path: Path) -> None:
        WRITERS["aist"](tmp_path)
        camera = view(640, 360, 500.0)
        record = next(read_dataset("aist", tmp_path, "train"))
        label = record.people[0].smpl
        assert label is not None
        assert label.pelvis is not None
        assert not label.shape_known
        middle = record.people[0].points3d["coco17"][:, :3].mean(0)  # where the writer puts transl
        offset = camera.R @ (0.93 * np.array([-0.00217368, -0.24078917, 0.02858379]))
        assert np.abs(label.pelvis - middle - offset).max() < 1e-5

    def test_surreal_mirrors_the_pose_with_the_person(self, tmp_path: Path) -> None:
        """The body posed by the label has its joints where the labelled joints are."""
        WRITERS["surreal"](tmp_path)
        path = tmp_path / "SURREAL/cmu/train/run0/01_01/01_01_c0001_info.mat"
        rng, eye, turn = np.random.default_rng(2), np.array([6.7, -0.9, -1.9]), 0.8
        pose = rng.normal(0, 0.35, (24, 3))
        up = Rotation.from_euler("x", 90, degrees=True) * Rotation.from_euler("z", turn)
        world = pose.copy()
        world[0] = (up * Rotation.from_rotvec(pose[0])).as_rotvec()
        body = load_body("open")
        posed = body(_rotations(world), torch.zeros(10), torch.zeros(3), vertices=False)
        joints = posed.joints.numpy() + (-0.5, -1.0, -1.0)
        put_mat(
            path,
            joints3D=joints.T[..., None],
            joints2D=np.ones((2, 24, 1)) * np.arange(24)[:, None],
            pose=pose.reshape(72, 1),
            shape=np.zeros((10, 1)),
            zrot=[[turn]],
            gender=[[0]],
            camLoc=eye[:, None],
        )
        person = next(read_dataset("surreal", tmp_path, "train")).people[0]
        label = person.smpl
        assert label is not None
        assert label.gender == "female"
        assert label.pelvis is not None
        own = body(rotations_of(label), torch.zeros(10), torch.zeros(3), vertices=False)
        found = own.joints.numpy() - own.joints.numpy()[0] + label.pelvis
        truth = person.points3d["smpl24"][:, :3]
        assert np.abs(found - truth).max() < 0.005  # the open body is not quite symmetric
        left, right = (SMPL_JOINTS.index(f"{side}_wrist") for side in ("left", "right"))
        assert np.allclose(truth[left], SURREAL_AXES @ (joints[right] - eye), atol=1e-5)

    def test_synthetic_scenes(self, tmp_path: Path) -> None:
        camera = Camera.from_fov(64, 48, 60.0)
        box = np.array([1, 2, 30, 40], np.float32)
        rotations = np.repeat(np.eye(3, dtype=np.float32)[None], 24, 0)
        rotations[0] = Rotation.from_euler("x", 3.0).as_matrix()
        seen = PersonTruth(rotations, np.zeros(10), np.array([0, 0, 3.0]), box, box, 0.9)
        hidden = PersonTruth(rotations, np.zeros(10), np.array([0, 0, 4.0]), box, None, 0.0)
        image = np.full((48, 64, 3), 90, np.uint8)
        (tmp_path / "synthetic/train").mkdir(parents=True)
        scenes = [Scene(image, camera, [seen, hidden]), Scene(image // 2, camera, [seen])]
        write_shard(tmp_path / "synthetic/train/shard-00000.npz", scenes)
        records = list(read_dataset("synthetic", tmp_path))
        assert [len(record.people) for record in records] == [1, 1]
        label = records[0].people[0].smpl
        assert label is not None
        assert label.body == "open"
        assert np.abs(rotations_of(label).numpy() - rotations).max() < 1e-5
        assert PictureReader().read(records[1].picture).mean() == pytest.approx(45, abs=1)


def _rotations(vectors: Array) -> torch.Tensor:
    return torch.from_numpy(Rotation.from_rotvec(vectors).as_matrix()).float()


class TestCatalogue:
    def test_unknown_names(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="h36m"):
            read_dataset("human", tmp_path)
        with pytest.raises(UsageError, match="train, test"):
            read_dataset("lsp", tmp_path, "val")

    def test_folders_and_pages(self) -> None:
        folders = [info.folder for info in DATASETS.values()]
        assert len(set(folders)) == len(folders)
        assert all(info.page and info.licence for info in DATASETS.values())

    def test_every_takes_the_first_of_each_sequence(self, tmp_path: Path) -> None:
        sample = WRITERS["3dhp"](tmp_path)
        source = tmp_path / "MPI-INF-3DHP/S1/Seq1/imageSequence"
        (source / "video_1.avi").write_bytes((source / "video_0.avi").read_bytes())
        records = list(every(read_dataset(sample.name, tmp_path), 2))
        assert [(r.sequence[-1], r.number) for r in records] == [
            ("0", 0), ("0", 2), ("1", 0), ("1", 2),
        ]  # fmt: skip


class TestPictures:
    def test_size_from_the_header(self, tmp_path: Path) -> None:
        import cv2

        for suffix in (".jpg", ".png", ".bmp"):
            path = tmp_path / f"a{suffix}"
            cv2.imwrite(str(path), np.zeros((21, 34, 3), np.uint8))
            assert picture_size(path) == (34, 21)

    def test_labels_are_of_the_pixels_as_stored(self, tmp_path: Path) -> None:
        """A photo that its camera held upright: viewers turn it, labels are from before that."""
        import cv2

        left = np.zeros((24, 48, 3), np.uint8)
        left[:, :24] = 255
        jpeg = cv2.imencode(".jpg", left)[1].tobytes()
        exif = b"Exif\0\0" + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, 6, 0, 0)
        path = tmp_path / "a.jpg"
        path.write_bytes(
            jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
        )
        assert picture_size(path) == (48, 24)
        assert np.abs(PictureReader().read(Picture(path)).astype(int) - left).max() < 20

    def test_no_picture(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00")
        with pytest.raises(InputError):
            picture_size(tmp_path / "a.jpg")
        with pytest.raises(MissingFileError):
            picture_size(tmp_path / "b.jpg")

    def test_a_video_that_is_too_short(self, tmp_path: Path) -> None:
        from dataclasses import replace

        WRITERS["aist"](tmp_path)
        record = next(read_dataset("aist", tmp_path))
        late = replace(record.picture, frame=FRAMES + 2)
        reader = PictureReader()
        for _ in range(2):  # the second time without reading it all again
            with pytest.raises(InputError, match=f"frame {FRAMES + 2}, at {FRAMES}: cut off"):
                reader.read(late)
        assert reader.read(record.picture).shape == (360, 640, 3)

    def test_jumps_land_on_the_frame(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shades = [np.full((64, 96, 3), 4 * shade, np.uint8) for shade in range(60)]
        path = put_video(tmp_path / "a.mp4", shades)
        reader = PictureReader()
        one_by_one = [reader.read(Picture(path, frame)) for frame in range(60)]
        assert all(b.mean() > a.mean() for a, b in zip(one_by_one[::5], one_by_one[5::5]))
        monkeypatch.setattr("mpmesh_core.datasets.pictures._FAR", 10)
        reader = PictureReader()
        for frame in (1, 40, 45, 3, 59):
            assert np.array_equal(reader.read(Picture(path, frame)), one_by_one[frame])

    def test_another_size_than_the_labels(self, tmp_path: Path) -> None:
        from dataclasses import replace

        WRITERS["aist"](tmp_path)
        record = next(read_dataset("aist", tmp_path))
        with pytest.raises(InputError, match="1280 x 720"):
            PictureReader().of(replace(record, width=1280, height=720))


def test_h36m_names_agree_with_the_17_of_the_field() -> None:
    used = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    kinds = [H36M32[i] for i in used]
    assert [k for k in kinds if k.startswith("right")] == [
        "right_hip", "right_knee", "right_ankle", "right_shoulder", "right_elbow", "right_wrist",
    ]  # fmt: skip
    assert set(kinds) == set(CONVENTIONS["h36m17"].names)
