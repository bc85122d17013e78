"""datasets: readers of published data sets in their official formats; see `datasets.record`."""
