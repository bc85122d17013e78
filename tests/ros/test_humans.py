"""humans: people as REP 155 has them."""

from dataclasses import replace

import numpy as np
from message_samples import frame_of, room
from people_samples import standing_person

from mpmesh_core.joints import COCO_KEYPOINTS
from mpmesh_core.messages.humans import SKELETON, bodies, skeleton_points
from mpmesh_core.messages.rosbags_types import RosbagsTypes


class TestBodies:
    def test_everybody_has_topics_under_an_id_and_a_frame(self, body, camera):
        types = RosbagsTypes()
        people = room(body, camera, 2)
        people[1] = replace(people[1], bbox=np.array([-50.0, -50, 700, 500]))
        got = {}
        for part in bodies(types, frame_of(body, camera, people)):
            data = types.serialize(part.message)
            got[part.topic] = types.store.deserialize_cdr(data, part.type)
        assert got["/humans/bodies/tracked"].ids == ["p0", "p1"] and len(got) == 8
        roi = got["/humans/bodies/p1/roi"]
        assert (roi.xmin, roi.ymin, roi.xmax, roi.ymax) == (0, 0, 1, 1)
        point = got["/humans/bodies/p0/position"].point
        np.testing.assert_allclose([point.x, point.y, point.z], people[0].position)
        names = [transform.child_frame_id for transform in got["/tf"].transforms]
        assert names == ["body_p0", "body_p1"]

    def test_order_of_the_skeleton_is_that_of_the_constants(self):
        cls = RosbagsTypes()["hri_msgs/msg/Skeleton2D"]
        assert [getattr(cls, name.upper()) for name in SKELETON] == list(range(18))

    def test_nobody_is_an_empty_list(self, body, camera):
        ids, frames = bodies(RosbagsTypes(), frame_of(body, camera, []))
        assert ids.message.ids == [] and frames.message.transforms == []


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
