"""The loader and the store beside each other."""

import multiprocessing
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_small_measurement_runs_through(repository):
    command = [sys.executable, repository / "benchmarks/data.py", "--images", "40", "--epochs", "2", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("uint8 batches")[1].split("Finished batches, on the CPU")
    for table in (first, second):
        assert "ordinary loader, 1 workers" in table and "store in memory" in table and "store on disk" in table
    assert "decode_jpeg alone" in first


def test_a_process_of_its_own_starts_workers_as_this_one_does(benchmark):
    method = benchmark("data").apart(eval, "__import__('multiprocessing').get_start_method()")
    assert method == multiprocessing.get_start_method()
