import re
from pathlib import Path

import pytest
import torch

from dassl_vr.utils.environment import collect_env_info, library_versions, peak_memory_bytes


def test_environment():
    assert library_versions()["torch"].startswith(torch.__version__.split("+")[0])
    assert "torch:" in collect_env_info()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_peak_memory_of_a_process():
    peak = 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
    assert 0.9 * peak <= peak_memory_bytes(torch.device("cpu")) < 10 * peak
