import torch

from dassl_vr.utils.environment import collect_env_info, library_versions, peak_memory_bytes


def test_environment():
    assert library_versions()["torch"].startswith(torch.__version__.split("+")[0])
    assert "torch:" in collect_env_info()
    before = peak_memory_bytes(torch.device("cpu"))
    block = torch.ones(60_000_000)  # 240 MB
    assert peak_memory_bytes(torch.device("cpu")) - before > 50e6 or before > 5e8
    del block
