"""evaluation.summaries: photos, studio frames and the demo clip as reports with their protocols."""

from __future__ import annotations

import numpy as np

from mpmesh_core.evaluation.clip import ClipReport
from mpmesh_core.evaluation.matching import MAX_DISTANCE
from mpmesh_core.evaluation.photos import MIN_HEIGHT, PhotoReport
from mpmesh_core.evaluation.protocol import Group, Protocol, ProtocolReport
from mpmesh_core.evaluation.studio import StudioReport

_HERE = "this project"
_METHOD = "MPMesh"

PHOTOS = Protocol(
    name="photos with COCO keypoints",
    joints="17 COCO joints in the picture, relative to the torso; people with a labelled torso; the"
    " COCO subset's labels, which are shifted sideways, as given and moved onto outlines",
    regressor="the body's own",
    alignment="none",
    boxes="the pipeline's own detections",
    gender="none",
    matching=f"best score first, IoU 0.5; people below {MIN_HEIGHT:.0f} px and crowds ignored",
    source=_HERE,
)
STUDIO = Protocol(
    name="Human3.6M and MPI-INF-3DHP frames",
    joints="12 limb joints (shoulders, elbows, wrists, hips, knees, ankles)",
    regressor="the body's own Human3.6M joints; truth as labelled",
    alignment="middle of the hips; PA-MPJPE: rotation, translation and scale",
    boxes="the pipeline's own detections",
    gender="none",
    matching="the person with the best score",
    source=_HERE,
)
CLIP = Protocol(
    name="demo clip",
    joints="24 SMPL joints; PVE on all vertices",
    regressor="the body's own",
    alignment="pelvis; PA-MPJPE: rotation, translation and scale; position: none",
    boxes="the pipeline's own detections, tracked",
    gender="none, one body for all",
    matching="pairs stay (CLEAR MOT); others Hungarian on pelvis distance, visible ones first; "
    f"up to {MAX_DISTANCE:g} m; a miss from half visible on",
    source=_HERE,
)


def photo_report(report: PhotoReport) -> ProtocolReport:
    """Photos."""
    return ProtocolReport(
        PHOTOS,
        data=f"{report.photos} photos, {report.truths} people of {MIN_HEIGHT:.0f} px or more",
        method=_METHOD,
        figures={
            "recall, as reported": report.recall,
            "precision, as reported": report.precision,
            "recall at precision 0.85": report.recall_at_85,
            "PCK@0.2 torso": report.pck_02,
            "PCK@0.5 torso": report.pck_05,
            "keypoints": report.keypoints,
            "PCK@0.2 torso, labels moved onto outlines": report.moved_pck_02,
            "PCK@0.5 torso, labels moved onto outlines": report.moved_pck_05,
            "keypoints, labels moved onto outlines": report.moved_keypoints,
        },
    )


def studio_report(report: StudioReport) -> ProtocolReport:
    """Studio frames; means over those where somebody was found."""
    values = np.stack([report.mpjpe, report.pa_mpjpe, 100 * report.distance_error])
    names = ("MPJPE [mm]", "PA-MPJPE [mm]", "distance error [%]")
    found = ~np.isnan(values[0])
    means = np.abs(values[:, found]).mean(1) if found.any() else np.full(3, np.nan)
    return ProtocolReport(
        STUDIO,
        data=f"{len(report.names)} frames",
        method=_METHOD,
        figures={
            **dict(zip(names, means.tolist())),
            "frames with nobody found": float((~found).sum()),
        },
        groups=[
            Group(
                "Frames",
                {n: dict(zip(names, row)) for n, row in zip(report.names, values.T.tolist())},
            )
        ],
    )


def clip_report(report: ClipReport) -> ProtocolReport:
    """The demo clip."""
    return ProtocolReport(
        CLIP,
        data=f"{report.frames} frames",
        method=_METHOD,
        figures={
            "MPJPE [mm]": report.mpjpe_mm,
            "PA-MPJPE [mm]": report.pa_mpjpe_mm,
            "PVE [mm]": report.pve_mm,
            "position [mm]": report.position_mm,
            "position [%]": 100 * report.position_relative,
            "people at least half visible": report.truths,
            "matched": report.matched,
            "false positives": report.false_positives,
            "ID switches": report.id_switches,
            "velocity [m/s]": report.velocity_error,
        },
    )
