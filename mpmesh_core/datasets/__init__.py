"""datasets: readers of published data sets in their official formats; see `datasets.record`."""

from mpmesh_core.datasets.catalogue import DATASETS, DatasetInfo, dataset_info, read_dataset
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture, SmplLabel

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "FrameRecord",
    "PersonRecord",
    "Picture",
    "SmplLabel",
    "dataset_info",
    "read_dataset",
]
