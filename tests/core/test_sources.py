"""Sources: pictures, folders, globs, videos, bags, and everything that can be wrong with them."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from bag_samples import BagMaker, camera_info, encode, image_message, quadrants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.sources import (
    BadFrame,
    Frame,
    decode_image,
    open_source,
    open_sources,
    read_image,
)
from mpmesh_core.sources.bag_reader import BagReader, readable_bag
from mpmesh_core.sources.images import ImageFiles, frame_numbers, natural_key
from mpmesh_core.sources.messages import camera_from_message, image_from_message
from mpmesh_core.types import Array


def frames_of(source: Any) -> tuple[list[Frame], list[BadFrame]]:
    items = list(source)
    good = [item for item in items if isinstance(item, Frame)]
    return good, [item for item in items if isinstance(item, BadFrame)]


def one_line(message: str) -> bool:
    return "\n" not in message and len(message) > 10


class TestDecodeImage:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
    def test_lossless_formats_come_back(self, suffix: str) -> None:
        image = quadrants()
        np.testing.assert_array_equal(decode_image(encode(image, suffix)), image)

    def test_jpeg_nearly(self) -> None:
        image = quadrants()
        assert np.abs(decode_image(encode(image, ".jpg")).astype(int) - image).mean() < 3

    def test_grey_becomes_rgb(self) -> None:
        grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
        image = decode_image(encode(grey, ".png"))
        np.testing.assert_array_equal(image, grey[..., None].repeat(3, axis=2))

    def test_sixteen_bits_keep_the_upper_eight(self) -> None:
        image = quadrants().astype(np.uint16) * 257
        np.testing.assert_array_equal(decode_image(encode(image, ".png")), quadrants())

    @pytest.mark.parametrize("largest", [1, 15, 100, 255, 1023, 4095, 65535])
    @pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
    def test_netpbm_has_a_largest_value_of_its_own(self, kind: str, largest: int) -> None:
        """Ten or twelve bits of an industrial camera are no dark picture."""
        levels = np.array([[0, largest // 2, largest]], ">u2" if largest > 255 else "u1")
        values = levels[..., None].repeat(3, axis=2) if kind in ("P3", "P6") else levels
        data = values.tobytes()
        if kind in ("P2", "P3"):
            data = " ".join(map(str, values.ravel())).encode() + b"\n"
        head = f"{kind}\n# 9 9 9\n3 # of 1 row\n1\n{largest}\n".encode()
        expected = levels.astype(float) * 255 / largest
        image = decode_image(head + data)
        assert image.shape == (1, 3, 3)
        np.testing.assert_allclose(image, expected[..., None].repeat(3, axis=2), atol=1)

    @pytest.mark.parametrize("suffix", [".png", ".tiff"])
    def test_alpha_is_dropped(self, suffix: str) -> None:
        image = np.dstack([quadrants(), np.full((48, 64), 7, np.uint8)])
        np.testing.assert_array_equal(decode_image(encode(image, suffix)), quadrants())

    def test_alpha_of_a_tiff_darkens_nothing(self) -> None:
        """A TIFF that says its alpha is one comes out of OpenCV multiplied by it."""
        colour = quadrants()
        rows = np.dstack([colour, np.full(colour.shape[:2], 128, np.uint8)])
        height, width = colour.shape[:2]
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)]
        tags += [(262, 3, 1, 2), (273, 4, 1, 154), (277, 3, 1, 4), (278, 4, 1, height)]
        tags += [(279, 4, 1, rows.size), (338, 3, 1, 2)]
        entries = [struct.pack("<HHII", *tag) for tag in tags]
        entries[2] = struct.pack("<HHII", 258, 3, 4, 146)  # bits of each, behind the directory
        head = struct.pack("<2sHIH", b"II", 42, 16, 0).ljust(16, b"\0")
        directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
        data = head + directory.ljust(130, b"\0") + struct.pack("<4H", 8, 8, 8, 8) + rows.tobytes()
        image = decode_image(data)
        np.testing.assert_allclose(image.astype(int), colour, atol=1)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation: int) -> None:
        """What a camera stored turned comes back upright."""
        upright = quadrants()
        turned = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.transpose(1, 0, 2),
            6: np.rot90(upright, 1),
            7: upright.transpose(1, 0, 2)[::-1, ::-1],
            8: np.rot90(upright, -1),
        }[orientation]
        tags = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)
        exif = b"Exif\0\0" + tags
        jpeg = encode(np.ascontiguousarray(turned), ".jpg")
        tagged = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
        image = decode_image(tagged)
        assert image.shape == upright.shape
        assert np.abs(image.astype(int) - upright).mean() < 6

    @pytest.mark.skipif(
        not cv2.haveImageWriter(".avif"),
        reason="this OpenCV knows no AVIF, as those for NumPy 1.26 don't",
    )
    @pytest.mark.parametrize("quarters", [None, 0, 1, 2, 3])
    @pytest.mark.parametrize("axis", [None, 0, 1])
    def test_avif_orientation(self, quarters: int | None, axis: int | None) -> None:
        """Turned against the clock, then mirrored, as the file's own properties say."""
        stored = quadrants()
        data = encode(stored, ".avif")
        for tag, value in ((b"irot", quarters), (b"imir", axis)):
            if value is not None:  # behind the end, where it tells what it would in its own place
                data += b"\0\0\0\x09" + tag + bytes([value])
        upright = np.rot90(stored, quarters or 0)
        upright = upright if axis is None else np.flip(upright, axis)
        image = decode_image(data)
        assert image.shape == upright.shape
        assert np.abs(image.astype(int) - upright).mean() < 6
        assert decode_image(data, upright=False).shape == stored.shape

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm"])
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.995])
    def test_cut_off_is_an_error(self, suffix: str, share: float) -> None:
        rng = np.random.default_rng(0)
        image = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8), (0, 0), 2)
        data = encode(image, suffix)
        with pytest.raises(InputError) as caught:
            decode_image(data[: int(share * len(data))])
        assert one_line(str(caught.value))

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    @pytest.mark.parametrize("seed", range(8))
    def test_what_follows_the_end_does_not_matter(self, suffix: str, seed: int) -> None:
        """Phones append films to their pictures; those bytes may look like anything."""
        film = np.random.default_rng(seed).bytes(200_000) + b"\xff\xda\xff\xd8\xff"
        image = decode_image(encode(quadrants(), suffix) + film)
        assert image.shape == quadrants().shape

    def test_progressive_jpeg(self) -> None:
        """Several scans, with tables between them."""
        options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
        data = cv2.imencode(".jpg", quadrants(), options)[1].tobytes()
        assert decode_image(data).shape == quadrants().shape
        with pytest.raises(InputError, match="cut off"):
            decode_image(data[:-3])

    def test_cut_off_jpeg_with_whole_thumbnail(self) -> None:
        thumbnail = encode(quadrants(12, 16), ".jpg")
        jpeg = encode(quadrants(), ".jpg")
        embedded = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        data = jpeg[:2] + embedded + jpeg[2:]
        assert decode_image(data).shape == (48, 64, 3)
        with pytest.raises(InputError, match="cut off"):
            decode_image(data[:-60])

    @given(st.binary(max_size=400))
    @settings(max_examples=60, deadline=None)
    def test_random_bytes_give_a_picture_or_an_error(self, data: bytes) -> None:
        try:
            assert decode_image(data).dtype == np.uint8
        except InputError as error:
            assert one_line(str(error))

    @given(st.data())
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_damaged_pictures_give_a_picture_or_an_error(self, data: st.DataObject) -> None:
        suffix = data.draw(st.sampled_from([".jpg", ".png", ".bmp", ".tiff", ".webp"]))
        content = bytearray(encode(quadrants(), suffix))
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        try:
            image = decode_image(bytes(content))
        except InputError as error:
            assert one_line(str(error))
        else:
            assert image.ndim == 3 and image.dtype == np.uint8

    def test_absurd_size_is_an_error(self) -> None:
        header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + header
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
        png += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IEND\xaeB`\x82"
        with pytest.raises(InputError):
            decode_image(png)

    @pytest.mark.skipif(
        not hasattr(cv2.utils, "logging"), reason="OpenCV before 4.11 writes past its log"
    )
    def test_nothing_on_the_terminal(self) -> None:
        """Decoders' own messages would stand beside the one line that an error is."""
        code = (
            "from mpmesh_core.sources import decode_image\n"
            "for data in (b'P6 9 9 255 x', b'GIF89a', b'BM' + bytes(60), b'II*\\0' + bytes(30)):\n"
            "    try: decode_image(data)\n"
            "    except ValueError: pass\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"", b"")


class TestReadImage:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"no\.png does not exist"):
            read_image(tmp_path / "no.png")

    def test_no_picture_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "text.jpg").write_text("hello")
        with pytest.raises(InputError, match=r"text\.jpg"):
            read_image(tmp_path / "text.jpg")

    def test_large(self, tmp_path: Path) -> None:
        """Fifty million pixels, all of one colour."""
        (tmp_path / "wall.png").write_bytes(encode(np.full((5000, 10000), 90, np.uint8), ".png"))
        assert read_image(tmp_path / "wall.png").shape == (5000, 10000, 3)


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("b10.png", "b9.png", "A2.PNG"):
            (tmp_path / name).write_bytes(encode(quadrants(), ".png"))
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / "._b9.png").write_text("what another system leaves")
        (tmp_path / "sub.png").mkdir()
        return tmp_path

    def test_natural_order_and_only_pictures(self, folder: Path) -> None:
        good, bad = frames_of(open_source(str(folder)))
        assert [Path(frame.source).name for frame in good] == ["A2.PNG", "b9.png", "b10.png"]
        assert [frame.index for frame in good] == [0, 1, 2]
        assert not bad

    def test_one_broken_picture_is_one_bad_frame(self, folder: Path) -> None:
        (folder / "b9.png").write_bytes(encode(quadrants(), ".png")[:60])
        source = open_source(str(folder))
        good, bad = frames_of(source)
        assert source.length == 3 and len(good) == 2
        assert [(item.index, Path(item.source).name) for item in bad] == [(1, "b9.png")]
        assert one_line(bad[0].reason) and "b9.png" in bad[0].reason

    def test_picture_that_vanished_meanwhile(self, folder: Path) -> None:
        source = open_source(str(folder))
        (folder / "b10.png").unlink()
        good, bad = frames_of(source)
        assert (len(good), len(bad)) == (2, 1)

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no pictures"):
            open_source(str(tmp_path))

    @given(st.lists(st.from_regex(r"[a-c0-9]{0,4}\.png", fullmatch=True), unique=True))
    def test_natural_order_is_total(self, names: list[str]) -> None:
        paths = [Path(name) for name in names]
        assert sorted(paths, key=natural_key) == sorted(reversed(paths), key=natural_key)


class TestGlob:
    def test_matches_pictures(self, tmp_path: Path) -> None:
        for name in ("x2.png", "x10.png", "y.png"):
            (tmp_path / name).write_bytes(encode(quadrants(), ".png"))
        good, _ = frames_of(open_source(str(tmp_path / "x*.png")))
        assert [Path(frame.source).name for frame in good] == ["x2.png", "x10.png"]

    def test_bags_and_videos_too(self, tmp_path: Path) -> None:
        write_video(tmp_path / "b.avi", 3)
        write_video(tmp_path / "a.avi", 2)
        (tmp_path / "c.png").write_bytes(encode(quadrants(), ".png"))
        (tmp_path / "notes.txt").write_text("nothing")
        sources = open_sources([str(tmp_path / "*")])
        assert [source.kind for source in sources] == ["images", "video", "video"]
        assert [Path(source.name).name for source in sources[1:]] == ["a.avi", "b.avi"]
        with pytest.raises(UsageError, match="3 sources"):
            open_source(str(tmp_path / "*"))
        with pytest.raises(InputError, match="no picture, video or bag"):
            (tmp_path / "more.txt").write_text("nothing")
            open_sources([str(tmp_path / "*.txt")])

    def test_a_link_to_a_folder_above_is_not_followed_round(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(encode(quadrants(), ".png"))
        (tmp_path / "again.png").symlink_to(tmp_path / "a.png")
        (tmp_path / "round").symlink_to(tmp_path)
        (source,) = open_sources([str(tmp_path / "**" / "*.png")])
        assert source.paths == [tmp_path / "a.png", tmp_path / "again.png"]

    def test_no_match(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="matches no file"):
            open_source(str(tmp_path / "*.png"))

    def test_name_with_brackets_is_a_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a[1].png"
        path.write_bytes(encode(quadrants(), ".png"))
        assert len(frames_of(open_source(str(path)))[0]) == 1


class TestSeveralSources:
    def test_shell_glob_is_one_source(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{name}.png" for name in "abc"]
        for path in paths:
            path.write_bytes(encode(quadrants(), ".png"))
        paths[1].write_bytes(b"broken")
        sources = open_sources([str(path) for path in paths])
        good, bad = frames_of(sources[0])
        assert (len(sources), len(good), len(bad)) == (1, 2, 1)

    def test_single_broken_picture_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"broken")
        with pytest.raises(InputError, match=r"a\.png"):
            list(open_sources([str(tmp_path / "a.png")])[0])

    def test_one_broken_match_of_a_glob_beside_others_is_a_bad_frame(self, tmp_path: Path) -> None:
        (tmp_path / "broken.png").write_bytes(b"broken")
        (tmp_path / "a.png").write_bytes(encode(quadrants(), ".png"))
        sources = open_sources([str(tmp_path / "bro*.png"), str(tmp_path / "a.png")])
        found = [frames_of(source) for source in sources]
        assert [(len(good), len(bad)) for good, bad in found] == [(0, 1), (1, 0)]

    def test_nothing_given(self) -> None:
        with pytest.raises(UsageError):
            open_sources([])

    @pytest.mark.parametrize("name", ["nowhere.mp4", "nowhere/", "nowhere.bag", "12a"])
    def test_missing(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(MissingFileError, match="does not exist"):
            open_source(str(tmp_path / name))

    @pytest.mark.parametrize("text", ["~nobody-of-this-name/a.png", "20240131120000"])
    def test_neither_a_home_nor_a_camera(self, text: str) -> None:
        with pytest.raises(MissingFileError, match="does not exist"):
            open_sources([text])


class TestFrameNumbers:
    @pytest.mark.parametrize(
        "stems, numbers",
        [
            (["f8", "f9", "f10", "f11", "f12"], [0, 1, 2, 3, 4]),
            (["000001", "000004", "000007", "000010", "000013"], [0, 3, 6, 9, 12]),
            ([f"cam_{n}_left" for n in (1, 2, 3, 4, 5, 7, 8, 9)], [0, 1, 2, 3, 4, 6, 7, 8]),
            (
                ["000000000785", "000000040083", "000000196141", "000000197388", "000000458755"],
                None,
            ),
            (["p1", "p2", "p3", "p3_dance", "ski"], None),
            (["f1", "f2", "f3"], None),
            (["a1", "a2", "b3", "b4", "b5"], None),
            ([], None),
        ],
    )
    def test_sequences_are_told_from_photos(
        self, stems: list[str], numbers: list[int] | None
    ) -> None:
        assert frame_numbers([Path(f"{stem}.jpg") for stem in stems]) == numbers

    def test_stamps_follow_the_numbers(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{n:03d}.png" for n in (3, 6, 9, 12, 15, 18)]
        for path in paths:
            path.write_bytes(encode(quadrants(), ".png"))
        source = ImageFiles(paths, "clip")
        stamps = [frame.stamp for frame in source]
        assert source.sequence
        np.testing.assert_allclose(stamps, np.arange(6) * 0.1)

    def test_numbered_photos_are_no_sequence(self, tmp_path: Path) -> None:
        """Cameras number photos as they do frames; what they show tells."""
        for number in range(6):
            picture = np.random.default_rng(number).integers(0, 255, (4, 6, 3), dtype=np.uint8)
            large = cv2.resize(picture, (96, 64), interpolation=cv2.INTER_CUBIC)
            (tmp_path / f"DSC_{number:04d}.png").write_bytes(encode(large, ".png"))
        assert not open_source(str(tmp_path)).sequence

    def test_photos_of_different_sizes_are_no_sequence(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{n}.png" for n in range(6)]
        for n, path in enumerate(paths):
            path.write_bytes(encode(quadrants(48 + 2 * n), ".png"))
        assert not ImageFiles(paths, "photos").sequence


def write_video(path: Path, frames: int = 20, fps: float = 10.0, codec: str = "mp4v") -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    rng = np.random.default_rng(0)
    for value in np.linspace(20, 230, frames):
        noise = rng.integers(-15, 15, (48, 64, 3))
        writer.write(np.clip(value + noise, 0, 255).astype(np.uint8))
    writer.release()


class TestVideo:
    def test_frames_stamps_and_length(self, tmp_path: Path) -> None:
        write_video(tmp_path / "clip.mp4")
        source = open_source(str(tmp_path / "clip.mp4"))
        good, bad = frames_of(source)
        assert (source.length, len(good), bad) == (20, 20, [])
        assert source.fps == pytest.approx(10.0)
        np.testing.assert_allclose([f.stamp for f in good], np.arange(20) / 10, atol=1e-6)
        brightness = [frame.image.mean() for frame in good]
        np.testing.assert_allclose(brightness, np.linspace(20, 230, 20), atol=4)

    def test_colours_are_rgb(self, tmp_path: Path) -> None:
        writer = cv2.VideoWriter(
            str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48)
        )
        writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))
        writer.release()
        (frame,) = open_source(str(tmp_path / "red.avi"))
        assert isinstance(frame, Frame)
        assert frame.image[..., 0].mean() > 220 and frame.image[..., 2].mean() < 40

    def test_can_be_read_twice(self, tmp_path: Path) -> None:
        write_video(tmp_path / "clip.mp4", frames=3)
        source = open_source(str(tmp_path / "clip.mp4"))
        assert len(list(source)) == len(list(source)) == 3

    @pytest.mark.parametrize("content", [b"", b"no video at all", bytes(5000)])
    def test_unreadable(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.mp4").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.mp4 cannot be played") as caught:
            open_source(str(tmp_path / "bad.mp4"))
        assert one_line(str(caught.value))

    def test_ends_early(self, tmp_path: Path) -> None:
        """An AVI states its length at the beginning, so a cut one is noticed."""
        write_video(tmp_path / "clip.avi", frames=60, codec="MJPG")
        data = (tmp_path / "clip.avi").read_bytes()
        (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
        good, bad = frames_of(open_source(str(tmp_path / "cut.avi")))
        assert 15 < len(good) < 45
        assert len(bad) == 1 and "ends after" in bad[0].reason

    def test_most_of_a_short_video_missing(self, tmp_path: Path) -> None:
        write_video(tmp_path / "clip.mp4", frames=1)
        source = open_source(str(tmp_path / "clip.mp4"))
        for stated, told in ((2, 0), (3, 1)):
            source.length = stated
            good, bad = frames_of(source)
            assert len(good) == 1 and len(bad) == told

    def test_file_without_suffix(self, tmp_path: Path) -> None:
        write_video(tmp_path / "clip.mp4", frames=4)
        os.rename(tmp_path / "clip.mp4", tmp_path / "clip")
        assert open_source(str(tmp_path / "clip")).length == 4
        (tmp_path / "junk").write_bytes(b"junk")
        with pytest.raises(InputError, match="no picture, video or bag"):
            open_source(str(tmp_path / "junk"))

    def test_no_camera(self) -> None:
        source = open_source("97")
        with pytest.raises(InputError, match="camera 97 cannot be opened"):
            list(source)

    def test_real_clips(self) -> None:
        folder = Path(os.environ.get("MPMESH_TEST_DATA", "-")) / "photos"
        if not folder.is_dir():
            pytest.skip("MPMESH_TEST_DATA names no data folder with photos/")
        clip = folder / "mmhuman3d-demo" / "single_person_demo.mp4"
        good, bad = frames_of(open_source(str(clip)))
        assert (len(good), bad) == (40, [])


class TestImageFromMessage:
    @pytest.mark.parametrize("padding", [0, 5])
    @pytest.mark.parametrize(
        "encoding, order",
        [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0])],
    )
    def test_colour(self, encoding: str, order: list[int], padding: int) -> None:
        message = image_message(np.ascontiguousarray(quadrants()[..., order]), encoding, padding)
        np.testing.assert_array_equal(image_from_message(message), quadrants())

    @pytest.mark.parametrize("encoding, order", [("rgba8", [0, 1, 2]), ("bgra8", [2, 1, 0])])
    def test_alpha(self, encoding: str, order: list[int]) -> None:
        image = np.dstack([quadrants()[..., order], np.zeros((48, 64), np.uint8)])
        np.testing.assert_array_equal(
            image_from_message(image_message(image, encoding)), quadrants()
        )

    @pytest.mark.parametrize("big", [False, True])
    def test_sixteen_bits(self, big: bool) -> None:
        grey = quadrants()[..., 0].astype(np.uint16) * 256 + 17
        image = image_from_message(image_message(grey, "mono16", 4, big))
        np.testing.assert_array_equal(image, quadrants()[..., :1].repeat(3, axis=2))

    @pytest.mark.parametrize("encoding", ["rggb8", "bggr8", "gbrg8", "grbg8"])
    def test_bayer(self, encoding: str) -> None:
        """A plain red area stays red: the mosaic's first four pixels are named by the encoding."""
        colour = {"r": 200, "g": 90, "b": 20}
        cell = np.array([colour[letter] for letter in encoding[:4]], np.uint8).reshape(2, 2)
        image = image_from_message(image_message(np.tile(cell, (24, 32)), f"bayer_{encoding}"))
        np.testing.assert_allclose(image[8:-8, 8:-8].reshape(-1, 3).mean(axis=0), (200, 90, 20))

    @pytest.mark.parametrize("encoding", ["uyvy", "yuv422_yuy2"])
    def test_subsampled(self, encoding: str) -> None:
        luma, chroma = np.full((4, 8), 150, np.uint8), np.full((4, 8), 128, np.uint8)
        pair = [chroma, luma] if encoding == "uyvy" else [luma, chroma]
        image = image_from_message(image_message(np.stack(pair, axis=-1), encoding))
        assert image.shape == (4, 8, 3) and np.ptp(image) <= 1

    @pytest.mark.parametrize("encoding, red", [("nv12", 1), ("nv21", 0)])
    @pytest.mark.parametrize("padding", [0, 6])
    def test_colour_below_the_grey(self, encoding: str, red: int, padding: int) -> None:
        """Red on the left, grey on the right; a pair of colour serves four pixels."""
        rows = np.full((6, 8), 128, np.uint8)  # a picture of 8x4
        rows[4:, red:4:2] = 240  # red less grey
        message = image_message(rows, encoding, padding)
        message.height = 4
        image = image_from_message(message).astype(int)
        assert image.shape == (4, 8, 3)
        assert (image[:, :4, 0] > image[:, :4, 1:].max(axis=-1) + 100).all()
        assert np.ptp(image[:, 4:]) <= 1

    def test_faults_are_named(self) -> None:
        message = image_message(quadrants(), "rgb8")
        message.data = message.data[:-1]
        with pytest.raises(InputError, match="needs 9216"):
            image_from_message(message)
        message = image_message(quadrants(), "nv12", 20)
        message.step = message.width - 1
        with pytest.raises(InputError, match=f"step .*, {message.width} or more a row"):
            image_from_message(message)
        message.encoding = "32FC1"
        with pytest.raises(InputError, match="32FC1"):
            image_from_message(message)

    @given(
        st.integers(0, 9), st.integers(0, 9), st.integers(0, 40), st.binary(max_size=300),
        st.sampled_from(["rgb8", "mono16", "bayer_rggb8", "yuv422", "nv12", "bgra8", "what"]),
    )  # fmt: skip
    @settings(max_examples=100, deadline=None)
    def test_random_fields(
        self, height: int, width: int, step: int, data: bytes, encoding: str
    ) -> None:
        message = SimpleNamespace(
            height=height, width=width, step=step, encoding=encoding, is_bigendian=0, data=data
        )
        try:
            assert image_from_message(message).shape == (height, width, 3)
        except InputError as error:
            assert one_line(str(error))


class TestCameraFromMessage:
    def test_raw_pictures(self) -> None:
        camera = camera_from_message(camera_info())
        assert camera.model == "plumb_bob" and camera.K[1, 1] == 510 and len(camera.D) == 5

    def test_rectified_pictures_have_the_projection_matrix(self) -> None:
        camera = camera_from_message(camera_info(), rectified=True)
        assert camera.model == "none" and camera.K[0, 0] == 480 and camera.K[1, 2] == 230

    def test_ros1_names(self) -> None:
        info = camera_info()
        for name in "kdp":
            setattr(info, name.upper(), getattr(info, name))
            delattr(info, name)
        assert camera_from_message(info).K[0, 0] == 500

    def test_uncalibrated(self) -> None:
        with pytest.raises(InputError, match="not calibrated"):
            camera_from_message(camera_info(k=np.zeros(9)))


Writer = Callable[..., Path]


@pytest.fixture(params=["ros1", "mcap", "sqlite3"])
def write_bag(request: pytest.FixtureRequest, tmp_path: Path) -> Writer:
    """Writes a bag of pictures [(stamp, image)] of each kind; returns its path."""
    pytest.importorskip("rosbags", reason="the optional package rosbags isn't installed")
    kind = request.param

    def write(
        images: list[tuple[float, Array]],
        topic: str = "/camera/image_raw",
        compressed: bool = False,
        info: Any = None,
        more: tuple[str, ...] = (),
    ) -> Path:
        with BagMaker(tmp_path, kind) as bag:
            if info is not None:
                bag.camera_info("/camera/camera_info", info, 1.0)
            picture = bag.compressed if compressed else bag.image
            for index, (stamp, image) in enumerate(images):
                for name in (topic, *more):
                    picture(name, stamp, image, 5.0 + index)
        return bag.path

    return write


class TestBag:
    def test_pictures_stamps_and_camera(self, write_bag: Writer) -> None:
        pictures = [(10.5 + i / 4, np.roll(quadrants(), i, axis=1)) for i in range(4)]
        source = open_source(str(write_bag(pictures, info=camera_info())))
        good, bad = frames_of(source)
        assert (source.length, bad) == (4, [])
        for frame, (stamp, image) in zip(good, pictures, strict=True):
            np.testing.assert_array_equal(frame.image, image)
            assert frame.stamp == pytest.approx(stamp)
            assert frame.camera is not None and frame.camera.K[0, 0] == 500

    def test_compressed_without_camera(self, write_bag: Writer) -> None:
        path = write_bag([(0.0, quadrants())], topic="/cam/image/compressed", compressed=True)
        (frame,) = frames_of(open_source(str(path)))[0]
        np.testing.assert_array_equal(frame.image, quadrants())
        assert frame.camera is None
        assert frame.stamp == pytest.approx(5.0)  # no header stamp: when it was recorded

    def test_topics(self, write_bag: Writer) -> None:
        path = str(write_bag([(1.0, quadrants())], more=("/rear/image_raw",)))
        with pytest.raises(UsageError, match="/camera/image_raw, /rear/image_raw"):
            open_source(path)
        with pytest.raises(UsageError, match="/front"):
            open_source(path, topic="/front")
        assert len(list(open_source(path, topic="/rear/image_raw"))) == 1

    def test_uncalibrated_camera(self, write_bag: Writer) -> None:
        path = str(write_bag([(1.0, quadrants())], info=camera_info(k=np.zeros(9))))
        good, bad = frames_of(open_source(path))
        assert (good, len(bad)) == ([], 1)
        assert re.search(r"not calibrated.*--camera", bad[0].reason)
        assert [frame.camera for frame in open_source(path, camera_info=False)] == [None]

    def test_bad_picture_is_a_bad_frame(self, write_bag: Writer) -> None:
        wrong = np.zeros((2, 2), np.uint8)  # two bytes a row where rgb8 needs six
        good, bad = frames_of(open_source(str(write_bag([(1.0, quadrants()), (2.0, wrong)]))))
        assert (len(good), [item.index for item in bad]) == (1, [1])
        assert one_line(bad[0].reason)

    def test_single_file_of_a_folder(self, write_bag: Writer) -> None:
        path = write_bag([(1.0, quadrants())])
        files = [path] if path.is_file() else [*path.glob("*.mcap"), *path.glob("*.db3")]
        assert len(list(open_source(str(files[0])))) == 1

    def test_damaged(self, write_bag: Writer, tmp_path: Path) -> None:
        path = write_bag([(float(i), quadrants()) for i in range(1, 6)])
        file = path if path.is_file() else next(p for p in path.iterdir() if p.suffix != ".yaml")
        data = file.read_bytes()
        for share in (0.0, 0.02, 0.4, 0.8):
            file.write_bytes(data[: int(share * len(data))])
            try:
                good, bad = frames_of(open_source(str(file)))
            except InputError as error:
                assert one_line(str(error)) and file.name in str(error)
            else:
                assert len(good) + len(bad) <= 5  # no error only where the whole index is left

    def test_an_mcap_file_without_its_end(self, tmp_path: Path) -> None:
        pytest.importorskip("rosbags", reason="the optional package rosbags isn't installed")
        with BagMaker(tmp_path, "mcap") as bag:
            bag.image("/image", 1.0, quadrants(), 5.0)
        (file,) = bag.path.glob("*.mcap")
        file.write_bytes(file.read_bytes()[:-30])
        with pytest.raises(InputError, match="repair it with `mcap recover`"):
            open_source(str(file))

    def test_folders_that_are_no_bag(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no bag"):
            readable_bag(tmp_path)
        for name in ("a.mcap", "b.mcap"):
            (tmp_path / name).touch()
        with pytest.raises(InputError, match=r"has no metadata\.yaml"):
            readable_bag(tmp_path)

    def test_where_a_bag_is_damaged_later_its_first_pictures_are_read(
        self, write_bag: Writer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = open_source(str(write_bag([(float(i), quadrants()) for i in range(1, 6)])))
        whole = BagReader.messages

        def broken(reader: BagReader, connections: list[Any]) -> Iterator[Any]:
            for number, message in enumerate(whole(reader, connections)):
                if number == 3:
                    raise InputError(f"bag {reader.path} is damaged: chunk")
                yield message

        monkeypatch.setattr(BagReader, "messages", broken)
        good, bad = frames_of(source)
        assert [frame.index for frame in good] == [0, 1, 2]
        assert [(item.index, "damaged" in item.reason) for item in bad] == [(3, True)]

    def test_notes_beside_pictures_are_no_bag(self, tmp_path: Path) -> None:
        (tmp_path / "metadata.yaml").write_text("author: somebody\n")
        (tmp_path / "a.png").write_bytes(encode(quadrants(), ".png"))
        assert open_source(str(tmp_path)).kind == "images"

    def test_bag_without_pictures(self) -> None:
        pytest.importorskip("rosbags", reason="the optional package rosbags isn't installed")
        folder = Path(os.environ.get("MPMESH_TEST_DATA", "-")) / "bags"
        if not folder.is_dir():
            pytest.skip("MPMESH_TEST_DATA names no data folder with bags/")
        files = sorted([*folder.rglob("*.mcap"), *folder.rglob("*.db3")])
        for path in files:
            with pytest.raises(InputError, match="no image topic"):
                open_source(str(path))
