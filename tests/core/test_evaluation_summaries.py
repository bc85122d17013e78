"""Photos, studio frames and the demo clip as reports that name their rules."""

import json

import numpy as np
import pytest

from mpmesh_core.evaluation.clip import ClipReport
from mpmesh_core.evaluation.photos import PhotoReport
from mpmesh_core.evaluation.protocol import ProtocolReport
from mpmesh_core.evaluation.protocol_page import protocol_page
from mpmesh_core.evaluation.studio import StudioReport
from mpmesh_core.evaluation.summaries import clip_report, photo_report, studio_report

STUDIO = StudioReport(
    ("a.jpg", "b.jpg", "c.jpg"),
    np.array([100.0, np.nan, 60.0]),
    np.array([50.0, np.nan, 40.0]),
    np.array([0.1, np.nan, -0.2]),
)
REPORTS = {
    "photos": photo_report(
        PhotoReport(28, 75, 0.8, 0.9, 0.7, 700, 0.6, float("nan"), 600, 0.7, 0.9)
    ),
    "studio": studio_report(STUDIO),
    "clip": clip_report(ClipReport(10, 30, 29, 1, 100.0, 80.0, 110.0, 300.0, 0.07, 2, 0.2)),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
class TestReports:
    def test_every_rule_is_named(self, report: ProtocolReport) -> None:
        assert all(text for _, text in report.protocol.rows())
        page = protocol_page(report)
        assert report.protocol.name in page and report.data in page

    def test_json_has_no_numbers_that_are_none(self, report: ProtocolReport) -> None:
        json.dumps(report.to_json(), allow_nan=False)


def test_means_are_of_frames_where_somebody_was_found() -> None:
    figures = REPORTS["studio"].figures
    assert figures["MPJPE [mm]"] == 80 and figures["PA-MPJPE [mm]"] == 45
    assert np.isclose(figures["distance error [%]"], 15)  # of its size
    assert figures["frames with nobody found"] == 1
    assert np.isnan(studio_report(StudioReport((), *np.zeros((3, 0)))).figures["MPJPE [mm]"])
