"""kinematics: rotations and positions down a tree, whole batches at once.

In   local rotations (..., J, 3, 3) and rest positions (..., P, 3) [m] of a tree
Out  global rotations (..., J, 3, 3) and positions (..., P, 3) [m]
The products along the paths from the root are made by pointer jumping: each step joins every path
piece with the piece above it, so a tree of depth d takes log2(d) matrix products. Positions are
sums over ancestors, one product with a constant 0/1 matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KinematicTree(nn.Module):
    """Forward kinematics of one fixed tree.

    Args:
        parents: parent of each of the P points; -1 for the root, which comes first.
        rotating: the first J points carry a rotation, the others are tips and move with their
            parent.
    """

    _jumps: Tensor  # (S, J + 1) where each path piece continues, J stands for "above the root"
    _above: Tensor  # (P,) parent of each point, the root's is the root itself
    _paths: Tensor  # (P, P) 1 where the column lies on the path from the root to the row

    def __init__(self, parents: tuple[int, ...], rotating: int) -> None:
        super().__init__()
        self.parents = parents
        top = [parent if parent >= 0 else rotating for parent in parents[:rotating]] + [rotating]
        jump = torch.tensor(top)
        jumps = []
        while bool((jump[:-1] != rotating).any()):
            jumps.append(jump)
            jump = jump[jump]
        self.register_buffer("_jumps", torch.stack(jumps), persistent=False)
        above = torch.tensor(parents).clamp(min=0)
        self.register_buffer("_above", above, persistent=False)
        paths = torch.eye(len(parents), dtype=torch.bool)
        for child, parent in enumerate(parents):
            if parent >= 0:
                paths[child] |= paths[parent]
        self.register_buffer("_paths", paths, persistent=False)

    def global_rotations(self, rotations: Tensor) -> Tensor:
        """Product of the local rotations from the root to each joint.

        Args:
            rotations: (..., J, 3, 3), each in its parent's frame.

        Returns:
            (..., J, 3, 3).
        """
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        above_root = identity.expand(*rotations.shape[:-3], 1, 3, 3)
        pieces = torch.cat([rotations, above_root], dim=-3)
        for jump in self._jumps:
            pieces = pieces.index_select(-3, jump) @ pieces
        return pieces[..., :-1, :, :]

    def positions(self, global_rotations: Tensor, rest: Tensor) -> Tensor:
        """Where the points of the rest pose come to lie, the root staying in its place.

        Args:
            global_rotations: (..., J, 3, 3).
            rest: (..., P, 3) [m].

        Returns:
            (..., P, 3) [m].
        """
        bones = rest - rest.index_select(-2, self._above)  # the root's is zero
        turned = global_rotations.index_select(-3, self._above) @ bones.unsqueeze(-1)
        return rest[..., :1, :] + self._paths.to(rest.dtype) @ turned.squeeze(-1)
