"""Readers of labelled photos, on tiny made-up data sets."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mpmesh_core.datasets.boxes import keypoint_box, mask_box
from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.training.labels import (
    keypoint_image_names,
    read_coco_keypoints,
    read_coco_subset,
    read_lspet,
    read_pennfudan,
)
from mpmesh_core.training.labels.base import decode_rgb

WIDTH, HEIGHT = 40, 30


def jpeg(red: int = 200) -> bytes:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 2] = red  # BGR
    return bytes(cv2.imencode(".jpg", picture)[1])


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def lspet(tmp_path: Path) -> Path:
    count = 3
    joints = np.tile(np.array([10.0, 12.0, 1.0], np.float32), (count, 14, 1))
    joints[:, 13] = [20.0, 5.0, 1.0]
    joints[:, 2] = [-26.0, -30.0, 0.0]  # not labelled: must not stretch the box
    teacher = np.tile(np.array([15.0, 10.0, -3.0, 0.9], np.float16), (count, 33, 1))
    np.savez(
        tmp_path / "lspet_labels.npz",
        image_id=np.array([1, 5, 9], np.int32),
        height=np.full(count, HEIGHT, np.int16),
        width=np.full(count, WIDTH, np.int16),
        joints2d=joints,
        teacher2d=teacher,
        teacher3d=np.full((count, 33, 3), 0.5, np.float16),
        teacher_error=np.zeros(count, np.float16),
    )
    with tarfile.open(tmp_path / "lspet_images.tar", "w") as tar:
        for number in (1, 5, 9):
            info = tarfile.TarInfo(f"im{number:05d}.jpg")
            info.size = len(jpeg())
            tar.addfile(info, io.BytesIO(jpeg()))
    return tmp_path


class TestLspet:
    def test_labels_and_picture(self, lspet: Path) -> None:
        first = next(read_lspet(lspet))
        person = first.people[0]
        assert (first.name, first.source, first.complete) == ("im00001.jpg", "lspet", False)
        assert first.decode().shape == (HEIGHT, WIDTH, 3)
        assert person.keypoints["lsp14"][0].tolist() == [10, 12, 1]
        assert person.keypoints["mediapipe33"][0, 2] == pytest.approx(0.9, abs=1e-3)
        assert person.teacher3d is not None
        assert person.teacher3d.shape == (33, 3)
        assert person.box[0] > 0
        assert person.box[3] > 12

    @pytest.mark.parametrize(
        ("start", "stop", "names"),
        [(0, -1, ["00001", "00005"]), (-1, None, ["00009"]), (0, 0, []), (1, 2, ["00005"])],
    )
    def test_span(self, lspet: Path, start: int, stop: int | None, names: list[str]) -> None:
        assert [i.name for i in read_lspet(lspet, start, stop)] == [f"im{n}.jpg" for n in names]

    def test_missing_folder_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="LSP-extended labels not found"):
            next(read_lspet(tmp_path / "absent"))


class TestPennFudan:
    def test_boxes_follow_masks(self, tmp_path: Path) -> None:
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[2:11, 3:8], ids[5:20, 20:31] = 1, 2
        write(tmp_path / "JPEGImages" / "A.jpg", jpeg())
        write(tmp_path / "PedMasks" / "A_mask.png", bytes(cv2.imencode(".png", ids)[1]))
        (image,) = read_pennfudan(tmp_path)
        assert [p.box.tolist() for p in image.people] == [[3, 2, 7, 10], [20, 5, 30, 19]]
        assert image.people[1].mask is not None
        assert image.people[1].mask.sum() == 15 * 11

    def test_missing_mask(self, tmp_path: Path) -> None:
        write(tmp_path / "JPEGImages" / "A.jpg", jpeg())
        with pytest.raises(MissingFileError, match="Penn-Fudan mask"):
            list(read_pennfudan(tmp_path))


class TestCoco:
    def test_boxes_masks_and_exclusion(self, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            write(tmp_path / "images" / "train2017" / f"{name}.jpg", jpeg())
        labels = Path("labels") / "train2017"
        boxes = "0 0.5 0.5 0.5 0.5\n16 0.1 0.1 0.1 0.1\n0 0.1 0.1 0.1 0.1\n"
        write(tmp_path / "object_detection" / labels / "a.txt", boxes)
        polygon = "1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n62 0 0 1 0 1 1\n"
        write(tmp_path / "instance_segmentation" / labels / "a.txt", polygon)
        first, second = read_coco_subset(tmp_path, exclude={"b.jpg"})
        assert (first.name, second.name, second.people) == ("a.jpg", "c.jpg", ())
        whole, small = first.people
        np.testing.assert_allclose(whole.box, [9.5, 7, 29.5, 22])
        assert whole.mask is not None
        assert whole.mask[15, 20]
        assert small.mask is None

    def test_keypoints(self, tmp_path: Path) -> None:
        keypoints = [0.0] * 51
        keypoints[:6] = [10.0, 5.0, 2.0, 20.0, 15.0, 1.0]
        row = {"image_id": 7, "keypoints": keypoints, "bbox": [0.5, 0.5, 30, 20]}
        images = [{"id": 7, "file_name": "images/x.jpg", "width": WIDTH, "height": HEIGHT}]
        path = tmp_path / "k.json"
        annotations = [row, {**row, "bbox": None, "iscrowd": 1}]
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        write(tmp_path / "images" / "x.jpg", jpeg())
        (image,) = read_coco_keypoints(path, tmp_path)
        assert image.people[0].keypoints["coco17"][:3].tolist() == [
            [10, 5, 1],
            [20, 15, 1],
            [0, 0, 0],
        ]
        assert image.people[0].box.tolist() == [0, 0, 30, 20]
        assert image.people[1].crowd
        assert image.people[1].box[0] == pytest.approx(8.5)
        assert keypoint_image_names(path) == {"x.jpg"}


class TestBase:
    def test_decode_is_rgb(self) -> None:
        pixel = decode_rgb(jpeg(red=250), "x")[0, 0]
        assert pixel[0] > 200
        assert pixel[2] < 50

    @pytest.mark.parametrize("encoded", [b"", b"no picture"])
    def test_unreadable_picture(self, encoded: bytes) -> None:
        with pytest.raises(InputError, match=r"a/b\.jpg: not a readable picture"):
            decode_rgb(encoded, "a/b.jpg")

    def test_keypoint_box_grows_by_longer_side(self) -> None:
        keypoints = np.array([[0, 0, 1], [100, 10, 1], [900, 900, 0]], np.float32)
        assert keypoint_box(keypoints, 0.1).tolist() == [-10, -10, 110, 20]

    def test_too_few_keypoints(self) -> None:
        with pytest.raises(InputError, match="at least 2"):
            keypoint_box(np.array([[1, 1, 1], [2, 2, 0]], np.float32))

    def test_empty_mask(self) -> None:
        with pytest.raises(InputError, match="no box"):
            mask_box(np.zeros((4, 4), bool))


_DATA = os.environ.get("MPMESH_TEST_DATA", "")


@pytest.mark.skipif(
    not (Path(_DATA) / "train2d").is_dir(), reason="MPMESH_TEST_DATA has no train2d folder"
)
class TestRealData:
    def test_test_photos_stay_out(self) -> None:
        root = Path(_DATA) / "train2d"
        tests = keypoint_image_names(root / "person_keypoints_derived.json")
        names = {image.name for image in read_coco_subset(root / "coco128x2", exclude=tests)}
        assert names
        assert not names & tests
