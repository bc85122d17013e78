"""docs/conventions.md, line by line: each test bears the name that stands in its row."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import roma
import torch
from people_samples import random_result, result_of, standing_person

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.crop import look_at
from mpmesh_core.drawing import person_vertices
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.joints import COCO_KEYPOINTS, H36M_JOINTS, POINTS, SMPL_JOINTS
from mpmesh_core.outputs import result_to_json
from mpmesh_core.refine import pose6d_from_rotations, rotations_from_pose6d
from mpmesh_core.sources import decode_image

PAGE = Path(__file__).parents[2] / "docs" / "conventions.md"
CAMERA = Camera.from_fov(640, 480, 60.0)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def rest(body: BodyModel) -> dict[str, torch.Tensor]:
    """The 29 points of the mean body at rest, by name."""
    points = body.rest_points(torch.zeros(10))
    return dict(zip(POINTS, points))


def posed_points(body: BodyModel, joint: str, rotvec: list[float]) -> dict[str, torch.Tensor]:
    rotations = torch.eye(3).repeat(24, 1, 1)
    rotations[SMPL_JOINTS.index(joint)] = roma.rotvec_to_rotmat(torch.tensor(rotvec))
    return dict(zip(POINTS, body(rotations, torch.zeros(10), torch.zeros(3)).points))


def test_page_and_tests_name_each_other() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    assert {name for name in globals() if name.startswith("test_")} - named == {
        "test_page_and_tests_name_each_other",
        "test_upright_person_who_faces_the_camera",
    }
    assert named <= set(globals())


def test_camera_frame() -> None:
    right, down = (CAMERA.project(np.array(point)) for point in ([0.1, 0, 2.0], [0, 0.1, 2.0]))
    centre = CAMERA.project(np.array([0, 0, 2.0]))
    assert right[0] > centre[0] and right[1] == centre[1]
    assert down[1] > centre[1] and down[0] == centre[0]


def test_pixel_centres() -> None:
    np.testing.assert_allclose(CAMERA.project(np.array([0, 0, 1.0])), [319.5, 239.5])
    left, right = CAMERA.unproject(np.array([[-0.5, 239.5], [639.5, 239.5]]))[:, 0]
    assert np.degrees(np.arctan(right) - np.arctan(left)) == pytest.approx(60.0)


def test_intrinsics() -> None:
    K = np.array([[500.0, 0, 300], [0, 520, 200], [0, 0, 1]])
    camera = Camera(K, np.zeros(0), "none", 640, 480)
    homogeneous = K @ np.array([0.3, -0.2, 1.0])
    np.testing.assert_allclose(camera.project(np.array([0.6, -0.4, 2.0])), homogeneous[:2])


@pytest.mark.parametrize(
    "model, D",
    [
        ("plumb_bob", [0.1, -0.05, 0.01, -0.02, 0.03]),
        ("rational_polynomial", [0.1, -0.05, 0.01, -0.02, 0.03, 0.2, -0.01, 0.02]),
        ("equidistant", [0.1, -0.05, 0.01, -0.02]),
    ],
)
def test_distortion_order(model: str, D: list[float]) -> None:
    """OpenCV reads the same order."""
    camera = Camera(CAMERA.K, np.array(D), model, 640, 480)
    points = np.array([[0.2, 0.1, 1.0], [-0.3, 0.2, 1.5]])
    no_pose = (np.zeros(3), np.zeros(3), np.array(CAMERA.K), np.array(D))
    if model == "equidistant":
        expected = cv2.fisheye.projectPoints(points[:, None], *no_pose)[0]
    else:
        expected = cv2.projectPoints(points, *no_pose)[0]
    np.testing.assert_allclose(camera.project(points), expected.reshape(-1, 2), atol=1e-4)


def test_resizing() -> None:
    half = CAMERA.scaled(320, 240)
    point = np.array([0.3, 0.1, 2.0])
    np.testing.assert_allclose(half.project(point), 0.5 * CAMERA.project(point) - 0.25)


def test_boxes(body: BodyModel) -> None:
    """A crop looks at the middle of (x1, y1, x2, y2)."""
    box = torch.tensor([[100.0, 50.0, 200.0, 350.0]])
    crops = look_at(box, CAMERA)
    axis = crops.R_crop_cam[0].T @ torch.tensor([0.0, 0.0, 1.0])
    np.testing.assert_allclose(CAMERA.project(axis.numpy()), [150, 200], atol=0.01)


def test_rgb() -> None:
    red_in_bgr = np.full((8, 8, 3), (0, 0, 255), np.uint8)
    image = decode_image(cv2.imencode(".png", red_in_bgr)[1].tobytes())
    assert image.dtype == np.uint8 and image[0, 0].tolist() == [255, 0, 0]


def test_crop_rotation() -> None:
    """What lies on the ray of the box centre lies on the crop camera's axis."""
    crops = look_at(torch.tensor([[300.0, 100.0, 420.0, 380.0]]), CAMERA)
    ray = torch.from_numpy(CAMERA.unproject(np.array([360.0, 240.0]))).float()
    in_crop = crops.R_crop_cam[0] @ ray
    np.testing.assert_allclose((in_crop / in_crop[2]).numpy(), [0, 0, 1], atol=1e-5)


def test_body_axes(body: BodyModel) -> None:
    points = rest(body)
    assert points["left_hand_tip"][0] - points["right_hand_tip"][0] > 1.2  # x left, arms out
    assert points["head_top"][1] - points["left_toe_tip"][1] > 1.3  # y up
    assert points["left_toe_tip"][2] - points["left_ankle"][2] > 0.05  # z front


def test_joint_order() -> None:
    places = {"pelvis": 0, "left_hip": 1, "right_hip": 2, "spine1": 3, "left_knee": 4}
    places |= {"head": 15, "left_hand": 22, "right_hand": 23}
    assert {name: SMPL_JOINTS.index(name) for name in places} == places


def test_point_order() -> None:
    tips = ("head_top", "left_hand_tip", "right_hand_tip", "left_toe_tip", "right_toe_tip")
    assert SMPL_JOINTS + tips == POINTS


def test_left_is_the_persons(body: BodyModel) -> None:
    """Who faces the camera has the left hand on the right of the picture."""
    person = standing_person(body, CAMERA, 0.0, 3.0)
    names = SMPL_JOINTS.index("left_wrist"), SMPL_JOINTS.index("right_wrist")
    assert person.joints_2d[names[0], 0] > person.joints_2d[names[1], 0]


def test_joint_rotations(body: BodyModel) -> None:
    """A knee's positive turn about x (left) bends the shin backwards, the thigh stays."""
    points, at_rest = posed_points(body, "left_knee", [0.8, 0, 0]), rest(body)
    shift = points["left_ankle"] - at_rest["left_ankle"]
    assert shift[2] < -0.1 and shift[1] > 0.05
    torch.testing.assert_close(points["left_knee"], at_rest["left_knee"])
    torch.testing.assert_close(points["right_ankle"], at_rest["right_ankle"])


def test_pelvis_is_transl_plus_j0(body: BodyModel) -> None:
    betas, transl = torch.linspace(-1, 1, 10), torch.tensor([0.3, -0.2, 4.0])
    turned = roma.random_rotmat(24)
    pelvis = body(turned, betas, transl).joints[0]
    torch.testing.assert_close(pelvis, transl + body.rest_joints(betas)[0])
    person = standing_person(body, CAMERA, 0.5, 3.0)
    np.testing.assert_allclose(person.position, person.joints[0])


def test_axis_angle(body: BodyModel) -> None:
    """A quarter turn about y (up) takes z (front) to x (left); joint j is body_pose[3(j-1):3j]."""
    quarter = roma.rotvec_to_rotmat(torch.tensor([0.0, np.pi / 2, 0.0]))
    torch.testing.assert_close(
        quarter @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0
    )
    person = standing_person(body, CAMERA, 0.0, 3.0)
    pose = np.zeros(69)
    elbow = SMPL_JOINTS.index("left_elbow")
    pose[3 * (elbow - 1) : 3 * elbow] = [0, 0, 1.0]
    bent, straight = person_vertices(body, [replace(person, body_pose=pose), person])
    moved = np.linalg.norm(bent - straight, axis=-1) > 1e-3
    weights = body.weights.numpy()
    below = [SMPL_JOINTS.index(name) for name in ("left_elbow", "left_wrist", "left_hand")]
    assert moved.any() and (weights[moved][:, below].sum(axis=1) > 0).all()


def test_rotation_6d() -> None:
    R = roma.random_rotmat(24)
    six = pose6d_from_rotations(R)
    torch.testing.assert_close(six[5], torch.cat([R[5, :, 0], R[5, :, 1]]))
    torch.testing.assert_close(rotations_from_pose6d(six, R), R)


def test_twist_layout(body: BodyModel) -> None:
    """A turn of joint j about its own bone stands in row j - 1 as (cos, sin)."""
    points = body.rest_points(torch.zeros(10))
    knee = SMPL_JOINTS.index("left_knee")
    bone = points[SMPL_JOINTS.index("left_ankle")] - points[knee]
    rotations = torch.eye(3).repeat(24, 1, 1)
    rotations[knee] = roma.rotvec_to_rotmat(0.7 * bone / bone.norm())
    twist = twist_from_rotations(rotations, points)
    expected = torch.tensor([[1.0, 0.0]]).repeat(23, 1)
    expected[knee - 1] = torch.tensor([np.cos(0.7), np.sin(0.7)])
    torch.testing.assert_close(twist, expected, atol=1e-5, rtol=0)


def test_keypoint_order(body: BodyModel) -> None:
    person = standing_person(body, CAMERA, 0.0, 3.0)
    assert (COCO_KEYPOINTS[0], COCO_KEYPOINTS[1], COCO_KEYPOINTS[16]) == (
        "nose", "left_eye", "right_ankle",
    )  # fmt: skip
    nose, ankle = person.coco_2d[0], person.coco_2d[16]
    assert nose[1] < ankle[1] and person.coco_2d[1, 0] > person.coco_2d[2, 0]
    assert H36M_JOINTS[:2] == ("pelvis", "right_hip") and H36M_JOINTS[10] == "head_top"
    assert person.h36m[10, 1] < person.h36m[0, 1]  # y down
    assert np.linalg.norm(person.h36m[0] - person.position) < 0.15


def test_upright_person_who_faces_the_camera(body: BodyModel) -> None:
    person = standing_person(body, CAMERA, 0.0, 3.0)
    np.testing.assert_allclose(np.abs(person.global_orient), [np.pi, 0, 0], atol=1e-3)
    by_name = dict(zip(SMPL_JOINTS, person.joints))
    assert by_name["head"][1] < by_name["pelvis"][1]
    assert by_name["left_foot"][2] < by_name["left_ankle"][2]  # toes towards the camera


def test_results_digits(body: BodyModel) -> None:
    result = result_of(CAMERA, [standing_person(body, CAMERA, 0.1234567, 3.0)])
    line = json.loads(result_to_json(replace(result, stamp=12.3456784)))
    assert line["stamp"] == 12.345678
    assert line["people"][0]["position"][0] == 0.123457
    assert line["K"][0] == float(f"{CAMERA.K[0, 0]:.9g}")


def test_covariance_is_row_major() -> None:
    result = random_result(np.random.default_rng(0), people=1)
    person = replace(result.people[0], position_covariance=np.arange(9.0).reshape(3, 3))
    line = json.loads(result_to_json(replace(result, people=[person])))
    assert line["people"][0]["position_covariance"] == list(range(9))
