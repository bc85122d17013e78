"""views: how a network input sees a person's patch; drawn at random, applied to pixels apart.

A `View` is everything random about one input: the crop camera, where the picture ends, what covers
it, what the camera does to it. `look` applies it with OpenCV, `device_crops` many of them at once
on a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mpmesh_core.training.augment import (
    AugmentConfig,
    Degrading,
    degrade,
    draw_cover,
    draw_degrading,
    jitter_box,
    part_of_box,
)

Array = np.ndarray
MARGIN = 1.25  # crop side over box side, as `mpmesh_core.crop.look_at` takes it


@dataclass(frozen=True)
class View:
    """One network input, as it is made from a patch of picture.

    Attributes:
        H: (3, 3) patch px to crop px.
        window: (4,) int x1, y1, x2, y2 [px of the patch]; the picture is black outside.
        donor: row of the person whose patch covers parts of the crop; -1: nobody.
        cover: (S, S) bool, what is covered.
        shift: (2,) int, by how much the donor's patch is moved round, down and to the right.
        degrading: what the camera does to the picture.
        mirrored: whether left and right are swapped in the end.
    """

    H: Array
    window: Array
    donor: int
    cover: Array
    shift: Array
    degrading: Degrading
    mirrored: bool

    def arrays(self) -> dict[str, Array]:
        """All of it as arrays of fixed shapes, `cover` as bits, for batches."""
        degrading = self.degrading
        return {
            "H": self.H.astype(np.float32),
            "window": self.window.astype(np.int32),
            "donor": np.array(self.donor),
            "cover": np.packbits(self.cover),
            "shift": self.shift.astype(np.int64),
            "mirrored": np.array(self.mirrored),
            "small": np.array(degrading.small),
            "kernel": degrading.kernel,
            "blurs": np.array(degrading.blurs),
            "table": degrading.table,
            "saturation": np.array(degrading.saturation, np.float32),
            "noise": np.array(degrading.noise, np.float32),
            "seed": np.array(degrading.seed),
        }


def draw_view(
    box: Array,
    K: Array,
    shape: Array,
    people: int,
    rng: np.random.Generator,
    augment: AugmentConfig,
    size: int,
) -> tuple[View, Array, Array]:
    """Draw how a person is seen.

    Args:
        box: (4,) x1, y1, x2, y2 of the whole person [px of the patch].
        K: (3, 3) camera of the patch.
        shape: (2,) height and width of the patch [px].
        people: how many could be the donor.
        size: side of the crop [px].

    Returns:
        The view; K_crop (3, 3) and R_crop_cam (3, 3) of the crop camera.
    """
    box = box.astype(np.float64)
    limit = np.array([shape[1], shape[0]] * 2)
    window = np.array([0, 0, shape[1], shape[0]])
    if rng.random() < augment.part:
        box = part_of_box(box, rng)
        if rng.random() < augment.border:
            window = np.clip(np.round(box), 0, limit).astype(int)
    K_crop, R = aim_crop(jitter_box(box, rng, augment), K, size, _roll(rng, augment))
    donor, cover, shift = -1, np.zeros((size, size), bool), np.zeros(2, int)
    if rng.random() < augment.occlude:
        donor = int(rng.integers(people))
        cover, shift = draw_cover(size, rng)
    degrading = draw_degrading(size, rng, augment)
    H = K_crop @ R @ np.linalg.inv(K.astype(np.float64))
    mirrored = bool(rng.random() < augment.mirror)
    return View(H, window, donor, cover, shift, degrading, mirrored), K_crop, R


def look(view: View, patch: Array, donor: Array | None, size: int) -> Array:
    """What a view shows.

    Args:
        patch: (H, W, 3) uint8 RGB.
        donor: (H', W', 3) uint8 RGB, where the view has one.
        size: S, side of the crop [px].

    Returns:
        (S, S, 3) uint8 RGB.
    """
    x1, y1, x2, y2 = view.window
    if (x2 - x1, y2 - y1) != patch.shape[1::-1]:
        kept = np.zeros_like(patch)
        kept[y1:y2, x1:x2] = patch[y1:y2, x1:x2]
        patch = kept
    image = cv2.warpPerspective(patch, view.H, (size, size), flags=cv2.INTER_LINEAR)
    if donor is not None:
        moved = np.roll(cv2.resize(donor, (size, size)), view.shift, (0, 1))
        image = np.where(view.cover[..., None], moved, image)
    image = degrade(image, view.degrading)
    return image[:, ::-1] if view.mirrored else image


def _roll(rng: np.random.Generator, augment: AugmentConfig) -> float:
    """Turn of the crop camera about its axis [rad]."""
    if rng.random() < augment.strong_roll:
        return float(rng.uniform(-np.pi, np.pi))
    return float(np.radians(augment.roll_deg) * np.clip(rng.normal(), -2, 2))


def aim_crop(box: Array, K: Array, size: int, roll: float) -> tuple[Array, Array]:
    """Crop camera (K_crop (3, 3), R_crop_cam (3, 3)) for one box; `crop.look_at` plus a roll."""
    inverse = np.linalg.inv(K.astype(np.float64))
    x1, y1, x2, y2 = box
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    px = np.array([[cx, cy], [x1, y1], [x2, y1], [x1, y2], [x2, y2], [cx, y1], [cx, y2]])
    rays = np.concatenate((px, np.ones((7, 1))), 1) @ inverse.T
    z = rays[0] / np.linalg.norm(rays[0])
    x = np.cross((0.0, 1.0, 0.0), z)
    x /= np.linalg.norm(x)
    R = np.stack((x, np.cross(z, x), z))
    turned = rays[1:] @ R.T
    extent = np.abs(turned[:, :2] / np.maximum(turned[:, 2:], 1e-3)).max()
    focal = size / 2 / (MARGIN * extent)
    middle = (size - 1) / 2
    K_crop = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
    c, s = np.cos(roll), np.sin(roll)
    return K_crop, np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ R
