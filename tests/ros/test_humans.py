"""humans: people as REP 155 has them."""

import numpy as np
from people_samples import standing_person

from mpmesh_core.joints import COCO_KEYPOINTS
from mpmesh_ros.humans import SKELETON, skeleton_points


class TestSkeletonPoints:
    def test_order_is_that_of_the_message(self):
        assert SKELETON[:5] == ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist"]
        assert SKELETON[11] == "left_hip" and SKELETON[17] == "right_ear"
        assert set(SKELETON) - {"neck"} == set(COCO_KEYPOINTS)

    def test_points_are_shares_of_the_picture(self, body, camera):
        person = standing_person(body, camera, 0.0, 4.0)
        points = skeleton_points(person, (640, 480))
        assert points.shape == (18, 3)
        nose = person.coco_2d[COCO_KEYPOINTS.index("nose")]
        np.testing.assert_allclose(points[0, :2], nose / [639, 479])
        assert points[2, 0] < points[5, 0]  # the right shoulder of who faces us is on the left

    def test_outside_has_no_confidence(self, body, camera):
        person = standing_person(body, camera, 0.0, 1.0)  # feet below the picture
        points = skeleton_points(person, (640, 480))
        assert points[SKELETON.index("right_ankle"), 2] == 0.0
        assert ((points >= 0) & (points <= 1)).all()
