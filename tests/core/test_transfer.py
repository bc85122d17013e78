"""What goes up comes down: uploads stay in place, packed fields come back as they were."""

import numpy as np
import pytest
import torch

from mpmesh_core.transfer import Copier, Download, Upload, pack, shapes_of, unpack

CPU = torch.device("cpu")
FIELDS = {
    "flags": torch.tensor([True, False]),
    "nobody": torch.zeros(0, 3),
    "matrices": torch.arange(18.0).view(2, 3, 3).mT,
    "exact": torch.tensor([0.1, -1e-30], dtype=torch.float64),
}


def test_packed_fields_come_back() -> None:
    fields = unpack(pack(FIELDS).numpy(), shapes_of(FIELDS))
    assert list(fields) == list(FIELDS)
    for name, value in FIELDS.items():
        assert np.array_equal(fields[name], value.float().numpy())


def test_downloads_are_the_callers() -> None:
    download = Download(CPU)
    first = download(torch.ones(3), {"a": (3,)})
    download(torch.zeros(3), {"a": (3,)})
    assert first["a"].tolist() == [1, 1, 1]


def test_an_upload_stays_in_place_for_its_shape() -> None:
    upload = Upload(CPU)
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    first = upload(image)
    image.flags.writeable = False
    again, other = upload(image), upload(np.zeros((1, 2, 3), np.uint8))
    assert first.data_ptr() == again.data_ptr() != other.data_ptr()
    assert torch.equal(again, torch.from_numpy(image.copy()))


def test_upload_of_a_flipped_view() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(Upload(CPU)(image[::-1]).numpy(), image[::-1])


@pytest.mark.parametrize("shape", [(3, 4, 3), (1080, 1920, 3), (2_000_000,), (1, 900_000), (0, 5)])
@pytest.mark.parametrize("threads", [1, 4])
def test_threads_copy_everything_once(shape: tuple[int, ...], threads: int) -> None:
    source = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    copy = Copier(threads)
    for array in (source, source[::-1], np.asfortranarray(source)):
        array.flags.writeable = False
        target = np.zeros(shape, np.uint8)
        copy(target, array)
        assert np.array_equal(target, array)


def test_a_copy_that_cannot_be_is_told() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        Copier(4)(np.zeros((2000, 1000), np.uint8), np.zeros((2000, 999), np.uint8))
