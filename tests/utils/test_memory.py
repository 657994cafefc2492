"""Memory kept between steps, seen by page faults: what the system hands out anew is paged in anew."""

import platform
import subprocess
import sys

import pytest

from dassl_vr.utils.memory import keep_freed_memory

PROGRAM = """
import resource
from dassl_vr.utils.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        block = b"x" * 80_000_000
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert keep_freed_memory()
faults()
kept = faults()
assert keep_freed_memory(False)
print(first, kept, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_blocks_are_kept_and_given_back(repository):
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=repository, capture_output=True, text=True, check=True)
    first, kept, given_back = map(int, done.stdout.split())
    assert kept < first / 20 and given_back > first / 2


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
