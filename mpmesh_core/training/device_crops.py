"""device_crops: crops of many people at once, cut and augmented on a device.

In   stores of people; views of a batch (`views.View.arrays`, with store and row of each)
Out  pictures (N, 3, S, S) float32, 0..255, channels last

Loading processes then only draw views and carry labels, a fraction of the work, so that a fast GPU
does not wait for them. The patches of all stores lie in the device's memory. Same pictures as
`views.look` up to rounding; noise is drawn by another generator.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mpmesh_core.training.augment import BLUR
from mpmesh_core.training.skeleton_data import PeopleStore

_CHUNK = 128  # crops at once: what sampling needs beside its result is many times as large
_LUMA = (0.299, 0.587, 0.114)
_PIECE = 1 << 28  # bytes copied to the device at once
_NAMES = (
    "start", "shape", "donor_start", "donor_shape", "H", "window", "cover", "shift", "mirrored",
    "kernel", "table", "saturation", "noise",
)  # fmt: skip


class DeviceCrops:
    """The patches of stores on a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stores: dict[int, Tensor] = {}

    def hold(self, number: int, store: PeopleStore) -> None:
        """Copy a store's patches to the device, unless they are there."""
        if number not in self._stores:
            patches = torch.empty(len(store.patches), dtype=torch.uint8, device=self._device)
            for part in range(0, len(patches), _PIECE):
                patches[part : part + _PIECE] = torch.tensor(store.patches[part : part + _PIECE])
            self._stores[number] = patches

    def __call__(self, batch: dict[str, Tensor], size: int) -> Tensor:
        """Pictures of a batch's views.

        Args:
            batch: views on the host, with `store` (N,), `start` and `shape`, `donor_start` and
                `donor_shape` as `PeopleStore.place` gives them; `hold` has had all its stores.
            size: S, side of the crops [px].
        """
        views = {name: self._up(batch[name]) for name in _NAMES}
        images = torch.empty(len(batch["store"]), size, size, 3, device=self._device)
        for number in batch["store"].unique().tolist():
            for part in _rows(batch["store"] == number).split(_CHUNK):
                covered = self._up(_rows(batch["donor"][part] >= 0))
                rows = self._up(part)
                here = {name: value[rows] for name, value in views.items()}
                images[rows] = _look(self._stores[number], here, covered, size)
        self._degrade(images, views, batch)
        mirrored = views["mirrored"][:, None, None, None]
        return torch.where(mirrored, images.flip(2), images).permute(0, 3, 1, 2)

    def _degrade(self, images: Tensor, views: dict[str, Tensor], host: dict[str, Tensor]) -> None:
        """What `augment.degrade` does, in place.

        What the host has of the views says whom a step concerns, without a wait for the device.
        """
        size = images.shape[1]
        for small in host["small"].unique().tolist():
            if small:
                rows = self._up(_rows(host["small"] == small))
                pictures = images[rows].permute(0, 3, 1, 2)
                shrunk = F.interpolate(pictures, (small, small), mode="area")
                images[rows] = F.interpolate(shrunk, (size, size), mode="bilinear").permute(
                    0, 2, 3, 1
                )
        rows = self._up(_rows(host["blurs"]))
        if len(rows):
            images[rows] = _blur(images[rows], views["kernel"][rows])
        for part in torch.arange(len(images)).split(_CHUNK):
            chunk = slice(int(part[0]), int(part[-1]) + 1)
            images[chunk] = _colour(
                images[chunk], views["table"][chunk], views["saturation"][chunk]
            )
        rows = self._up(_rows(host["noise"] > 0))
        if len(rows):
            draw = torch.Generator(self._device).manual_seed(int(host["seed"][0]))
            shape = (len(rows), size // 2, size // 2, 3)
            noise = torch.randn(shape, generator=draw, device=self._device)
            noise = noise.repeat_interleave(2, 1).repeat_interleave(2, 2)
            noise = noise * views["noise"][rows, None, None, None]
            images[rows] = (images[rows] + noise).clamp(0, 255)

    def _up(self, values: Tensor) -> Tensor:
        if self._device.type == "cuda":  # a copy from pinned memory does not wait
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)


def _rows(which: Tensor) -> Tensor:
    return which.nonzero()[:, 0]


def _look(patches: Tensor, views: dict[str, Tensor], covered: Tensor, size: int) -> Tensor:
    """Views (n, ...) of one store to (n, S, S, 3); something covers parts of those `covered`."""
    images = _warp(patches, views["start"], views["shape"], views["window"], views["H"], size)
    if len(covered):
        donors = {name: value[covered] for name, value in views.items()}
        images[covered] = torch.where(
            _unpack(donors["cover"], size), _donor(patches, donors, size), images[covered]
        )
    return images


def _colour(images: Tensor, tables: Tensor, saturation: Tensor) -> Tensor:
    """Pictures (n, S, S, 3) through their tables (n, 256, 3), and between grey and themselves."""
    levels = images.round().clamp(0, 255).long().flatten(1, 2)
    coloured = tables.float().gather(1, levels).view_as(images)
    grey = sum(share * coloured[..., i : i + 1] for i, share in enumerate(_LUMA))
    amount = saturation[:, None, None, None]
    return (amount * coloured + (1 - amount) * grey).clamp(0, 255)


def _warp(
    patches: Tensor, start: Tensor, shape: Tensor, window: Tensor, H: Tensor, size: int
) -> Tensor:
    """Patches seen through homographies (n, 3, 3), bilinear, black outside: (n, S, S, 3)."""
    v, u = _pixels(size, H.device)
    pixels = torch.stack((u, v, torch.ones_like(u)), -1).flatten(0, 1)
    seen = pixels @ torch.linalg.inv_ex(H.double()).inverse.mT.float()  # waits for nothing
    seen = (seen[..., :2] / seen[..., 2:]).unflatten(1, (size, size))
    return _sample(patches, start, shape, window, seen)


def _donor(patches: Tensor, views: dict[str, Tensor], size: int) -> Tensor:
    """The donors' patches, resized to the crop and moved round: (n, S, S, 3)."""
    v, u = _pixels(size, patches.device)
    shift = views["shift"][:, None, None].float()
    places = torch.stack(
        ((u - shift[..., 1]).remainder(size), (v - shift[..., 0]).remainder(size)), -1
    )
    extent = views["donor_shape"].flip(-1)[:, None, None].float()  # width, height
    places = ((places + 0.5) * extent / size - 0.5).clamp(min=0).minimum(extent - 1)
    window = torch.cat((torch.zeros_like(views["donor_shape"]), views["donor_shape"].flip(-1)), -1)
    return _sample(patches, views["donor_start"], views["donor_shape"], window, places)


def _pixels(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """v and u of all pixels, each (S, S)."""
    steps = torch.arange(size, device=device, dtype=torch.float32)
    return torch.meshgrid(steps, steps, indexing="ij")  # type: ignore[return-value]


def _sample(
    patches: Tensor, start: Tensor, shape: Tensor, window: Tensor, places: Tensor
) -> Tensor:
    """Patches at places (n, S, S, 2) [px], bilinear, black outside of the windows (n, 4)."""
    low = places.floor()
    part = places - low
    low = low.clamp(-2, 1 << 12).long()
    window, width = window[:, None, None], shape[:, 1, None, None]
    colours = torch.arange(3, device=patches.device)
    found = torch.zeros(*places.shape[:-1], 3, device=patches.device)
    for dy in (0, 1):
        for dx in (0, 1):
            u, v = low[..., 0] + dx, low[..., 1] + dy
            inside = (u >= window[..., 0]) & (u < window[..., 2])
            inside &= (v >= window[..., 1]) & (v < window[..., 3])
            share = (part[..., 0] if dx else 1 - part[..., 0]) * (
                part[..., 1] if dy else 1 - part[..., 1]
            )
            at = torch.where(inside, start[:, None, None] + (v * width + u) * 3, 0)
            found += patches[at[..., None] + colours] * torch.where(inside, share, 0.0)[..., None]
    return found


def _unpack(bits: Tensor, size: int) -> Tensor:
    """Bits (n, S S / 8) as `np.packbits` packs them to (n, S, S, 1) bool."""
    shifts = torch.arange(7, -1, -1, device=bits.device)
    return (bits[..., None] >> shifts & 1).bool().view(len(bits), size, size, 1)


def _blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Pictures (n, S, S, 3) under kernels (n, BLUR, BLUR)."""
    planes = images.permute(0, 3, 1, 2).flatten(0, 1)[None]
    planes = F.pad(planes, (BLUR // 2,) * 4, mode="reflect")
    weights = kernels.repeat_interleave(3, 0)[:, None]
    blurred = F.conv2d(planes, weights, groups=weights.shape[0])[0]
    return blurred.unflatten(0, (-1, 3)).permute(0, 2, 3, 1)
