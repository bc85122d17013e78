"""memory: large blocks come back from what the process has."""

import platform
import subprocess
import sys

import pytest

CODE = """
import numpy as np, resource
{keep}
for _ in range(20):
    np.ones(4 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(4 << 20, np.uint8), np.ones(5 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library isn't glibc")
def test_large_blocks_touch_no_new_pages():
    keep = "from mpmesh_ros.memory import keep_memory; assert keep_memory()"
    faults = subprocess.check_output([sys.executable, "-c", CODE.format(keep=keep)], text=True)
    assert int(faults) < 9 * 256  # once 9 MiB, not twenty times
