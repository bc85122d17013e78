"""body: from SMPL parameters to joints, keypoints and mesh, by batched linear blend skinning.

In   local rotations (..., 24, 3, 3), betas (..., 10), transl (..., 3) [m]
Out  BodyOutput: joints, points (joints and tips) and vertices [m], global rotations
The frame is that of the pelvis rotation and `transl`: SMPL axes (x left, y up, z forward) for the
identity, the camera's for poses in the camera frame. `pelvis = transl + J0(betas)`, as in SMPL.
The model is stateless: buffers only, nothing is remembered between calls. It works for any number
of vertices. Whatever is linear in the shape (joints, tips, keypoints) is folded into small
matrices once, so that only `vertices=True` touches the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mpmesh_core.body.files import BodyArrays
from mpmesh_core.body.kinematics import KinematicTree
from mpmesh_core.checks import check_shapes
from mpmesh_core.errors import UsageError
from mpmesh_core.joints import POINT_PARENTS, SMPL_PARENTS

KeypointSet = Literal["coco17", "h36m17"]


@dataclass(frozen=True)
class BodyOutput:
    """A posed body; all positions in metres, in the frame of `transl`."""

    joints: Tensor  # (..., 24, 3)
    points: Tensor  # (..., 29, 3) the joints, then head top, hand tips and toe tips
    vertices: Tensor | None  # (..., V, 3), None if they weren't asked for
    global_rotations: Tensor  # (..., 24, 3, 3) from the rest pose to the output frame


class BodyModel(nn.Module):
    """An SMPL-format body, posed by linear blend skinning.

    Args:
        arrays: the content of a body file, see `mpmesh_core.body.load_body`.
        dtype: floating type of all buffers and outputs.

    Example:
        >>> import torch
        >>> from mpmesh_core.body import load_body
        >>> body = load_body("open")
        >>> rest = torch.eye(3).expand(2, 24, 3, 3)
        >>> output = body(rest, torch.zeros(2, 10), torch.zeros(2, 3))
        >>> tuple(output.points.shape)
        (2, 29, 3)
    """

    v_template: Tensor  # (V, 3)
    shapedirs: Tensor  # (V, 3, 10)
    weights: Tensor  # (V, 24)
    J_regressor: Tensor  # (24, V)
    faces: Tensor  # (F, 3) int64
    posedirs: Tensor | None  # (V, 3, 207) pose correctives
    mirror: Tensor | None  # (V,) int64, each vertex's twin on the other side
    point_regressor: Tensor  # (29, V)
    _points_mean: Tensor  # (87,)
    _points_dirs: Tensor  # (10, 87)
    _mesh_mean: Tensor  # (3, V)
    _mesh_dirs: Tensor  # (10, 3 * V)
    _mesh_pose: Tensor  # (207, 3 * V)
    _mesh_weights: Tensor  # (24, V)

    def __init__(self, arrays: BodyArrays, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.name = arrays.name
        self.licence = arrays.licence
        self.parents: tuple[int, ...] = SMPL_PARENTS
        self.tree = KinematicTree(POINT_PARENTS, rotating=len(SMPL_PARENTS))
        exact = {key: torch.from_numpy(value) for key, value in arrays.float_arrays().items()}
        for key, value in exact.items():
            self.register_buffer(key, value.to(dtype), persistent=False)
        self.register_buffer("faces", torch.from_numpy(arrays.faces), persistent=False)
        mirror = None if arrays.mirror is None else torch.from_numpy(arrays.mirror)
        self.register_buffer("mirror", mirror, persistent=False)
        if "posedirs" not in exact:
            self.register_buffer("posedirs", None, persistent=False)
        self._fold_points(exact, dtype)
        self._fold_mesh(exact, dtype)
        self._keypoint_sets = tuple(arrays.keypoint_regressors)
        for which, regressor in arrays.keypoint_regressors.items():
            self._fold_keypoints(which, torch.from_numpy(regressor), exact, dtype)

    @property
    def keypoint_sets(self) -> tuple[str, ...]:
        """Names that `keypoints` takes for this body."""
        return self._keypoint_sets

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Joints of the rest pose with the pelvis at J0(betas).

        Args:
            betas: (..., 10) shape components.

        Returns:
            (..., 24, 3) positions [m] in body axes.
        """
        return self.rest_points(betas)[..., : len(self.parents), :]

    def rest_points(self, betas: Tensor) -> Tensor:
        """Joints and tips of the rest pose.

        Args:
            betas: (..., 10) shape components.

        Returns:
            (..., 29, 3) positions [m] in body axes: 24 joints, head top, left and right hand tip,
            left and right toe tip.
        """
        check_shapes(betas=(betas, (..., 10)))
        flat = self._points_mean + betas @ self._points_dirs  # (..., 87)
        return flat.unflatten(-1, (-1, 3))

    def forward(
        self, rotations: Tensor, betas: Tensor, transl: Tensor, vertices: bool = True
    ) -> BodyOutput:
        """Pose the body.

        Args:
            rotations: (..., 24, 3, 3) each joint in its parent's frame, the pelvis in the output
                frame.
            betas: (..., 10) shape components.
            transl: (..., 3) [m]; the pelvis comes to lie at `transl + J0(betas)`.
            vertices: whether to compute the mesh; without it only small matrices are touched.

        Returns:
            BodyOutput. Tips move rigidly with their parent joint.
        """
        check_shapes(rotations=(rotations, (..., 24, 3, 3)), transl=(transl, (..., 3)))
        rest = self.rest_points(betas)
        global_rotations = self.tree.global_rotations(rotations)
        local = self.tree.positions(global_rotations, rest)  # without transl
        points = local + transl.unsqueeze(-2)
        mesh = None
        if vertices:
            mesh = self._skin(rotations, global_rotations, betas, rest, local)
            mesh = (mesh + transl.unsqueeze(-1)).transpose(-1, -2)
        return BodyOutput(points[..., : len(self.parents), :], points, mesh, global_rotations)

    def keypoints(
        self, rotations: Tensor, betas: Tensor, transl: Tensor, which: KeypointSet
    ) -> Tensor:
        """Keypoints regressed from the posed mesh, without computing the mesh.

        Equal to `regressor @ forward(...).vertices`: a sum over vertices of a sum over joints,
        with the order of the sums exchanged and the inner one done at construction.

        Args:
            rotations: (..., 24, 3, 3) as in `forward`.
            betas: (..., 10) shape components.
            transl: (..., 3) [m].
            which: "coco17" (`joints.COCO_KEYPOINTS`) or "h36m17" (`joints.H36M_JOINTS`).

        Returns:
            (..., 17, 3) positions [m] in the frame of `transl`.

        Raises:
            UsageError: this body has no such regressor.
        """
        at_origin = self(rotations, betas, torch.zeros_like(transl), vertices=False)
        keypoints = self.keypoints_of(at_origin, rotations, betas, which)
        return keypoints + transl.unsqueeze(-2)

    def keypoints_of(
        self, posed: BodyOutput, rotations: Tensor, betas: Tensor, which: KeypointSet
    ) -> Tensor:
        """`keypoints` of a body that `forward` has posed already, with these parameters.

        Where a keypoint's weights do not sum to 1, only exact for a `transl` of zero.

        Returns:
            (..., 17, 3) positions [m] in the frame of `posed`.
        """
        if which not in self._keypoint_sets:
            known = ", ".join(self._keypoint_sets) or "none"
            raise UsageError(f"body '{self.name}' has no keypoints '{which}', it has: {known}")
        arms = self._keypoint_arms(which, rotations, betas)  # (..., 72, K)
        columns = posed.global_rotations.transpose(-3, -2).flatten(-2)  # (..., 3, 72)
        share = getattr(self, f"_{which}_share")  # (K, 24)
        return (columns @ arms).transpose(-1, -2) + share @ posed.joints

    def _keypoint_arms(self, which: str, rotations: Tensor, betas: Tensor) -> Tensor:
        """Vectors from each joint to its share of each keypoint, at rest: (..., 24 * 3, K)."""
        flat = getattr(self, f"_{which}_mean") + betas @ getattr(self, f"_{which}_dirs")
        if self.posedirs is not None:
            flat = flat + _pose_features(rotations) @ getattr(self, f"_{which}_pose")
        return flat.unflatten(-1, (3 * len(self.parents), -1))

    def _skin(
        self,
        rotations: Tensor,
        global_rotations: Tensor,
        betas: Tensor,
        rest: Tensor,
        local: Tensor,
    ) -> Tensor:
        """Linear blend skinning, coordinates first: (..., 3, V) without transl."""
        shaped = self._mesh_mean + (betas @ self._mesh_dirs).unflatten(-1, (3, -1))  # (..., 3, V)
        if self.posedirs is not None:
            shaped = shaped + (_pose_features(rotations) @ self._mesh_pose).unflatten(-1, (3, -1))
        count = len(self.parents)
        rest_joints, joints = rest[..., :count, :], local[..., :count, :]
        moved = joints - (global_rotations @ rest_joints.unsqueeze(-1)).squeeze(-1)
        affine = torch.cat([global_rotations, moved.unsqueeze(-1)], dim=-1)  # (..., 24, 3, 4)
        blended = affine.flatten(-2).transpose(-1, -2) @ self._mesh_weights  # (..., 12, V)
        blended = blended.unflatten(-2, (3, 4))
        mesh = blended[..., 3, :]
        for axis in range(3):
            mesh = torch.addcmul(mesh, blended[..., axis, :], shaped[..., axis : axis + 1, :])
        return mesh

    def _fold_points(self, exact: dict[str, Tensor], dtype: torch.dtype) -> None:
        """rest_points = mean + betas @ dirs."""
        regressor = exact["point_regressor"]
        mean = regressor @ exact["v_template"]  # (29, 3)
        dirs = torch.einsum("pv,vck->kpc", regressor, exact["shapedirs"])
        self.register_buffer("_points_mean", mean.flatten().to(dtype), persistent=False)
        self.register_buffer("_points_dirs", dirs.flatten(1).to(dtype), persistent=False)

    def _fold_mesh(self, exact: dict[str, Tensor], dtype: torch.dtype) -> None:
        """Copies with the vertices last, the layout in which skinning is a plain matrix product."""
        mean = exact["v_template"].T.to(dtype)
        dirs = exact["shapedirs"].permute(2, 1, 0).flatten(1).to(dtype)
        self.register_buffer("_mesh_mean", mean.contiguous(), persistent=False)
        self.register_buffer("_mesh_dirs", dirs.contiguous(), persistent=False)
        weights = exact["weights"].T.to(dtype)
        self.register_buffer("_mesh_weights", weights.contiguous(), persistent=False)
        if "posedirs" in exact:
            pose = exact["posedirs"].permute(2, 1, 0).flatten(1).to(dtype)
            self.register_buffer("_mesh_pose", pose.contiguous(), persistent=False)

    def _fold_keypoints(
        self, which: str, regressor: Tensor, exact: dict[str, Tensor], dtype: torch.dtype
    ) -> None:
        """kp_k = sum_j R_j arm_kj(betas) + share_kj joint_j, arm and share from w_vj and reg_kv."""
        used = regressor.any(0)  # few vertices, the folding is cheap on them
        template, shapedirs = exact["v_template"][used], exact["shapedirs"][used]
        pull = torch.einsum("kv,vj->kjv", regressor[:, used], exact["weights"][used])
        share = pull.sum(-1)  # (K, 24)
        joint_mean = exact["J_regressor"] @ exact["v_template"]
        joint_dirs = (exact["J_regressor"] @ exact["shapedirs"].flatten(1)).unflatten(1, (3, -1))
        mean = torch.einsum("kjv,vc->jck", pull, template)
        mean = mean - torch.einsum("kj,jc->jck", share, joint_mean)
        dirs = torch.einsum("kjv,vcb->bjck", pull, shapedirs)
        dirs = dirs - torch.einsum("kj,jcb->bjck", share, joint_dirs)
        folded = {"share": share, "mean": mean.flatten(), "dirs": dirs.flatten(1)}
        if "posedirs" in exact:
            pose = torch.einsum("kjv,vcp->pjck", pull, exact["posedirs"][used])
            folded["pose"] = pose.flatten(1)
        for key, value in folded.items():
            self.register_buffer(f"_{which}_{key}", value.to(dtype), persistent=False)


def _pose_features(rotations: Tensor) -> Tensor:
    """What SMPL's pose correctives are linear in: R - I of joints 1..23, (..., 207)."""
    body = rotations[..., 1:, :, :]
    return (body - torch.eye(3, dtype=body.dtype, device=body.device)).flatten(-3)
