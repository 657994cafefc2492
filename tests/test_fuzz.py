"""Some inputs of tests/fuzz.py each time, two thousand in the slow tier."""

import subprocess
import sys

import pytest


def fuzz(repository, *words):
    done = subprocess.run([sys.executable, repository / "tests/fuzz.py", *words], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0 and " 0 faults" in done.stdout
    return done.stdout


def test_fifty_inputs(repository):
    assert "seed 2: 50 inputs" in fuzz(repository, "--seed", "2", "--inputs", "50")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_inputs(repository):
    assert "seed 1: 2000 inputs" in fuzz(repository, "--seed", "1", "--inputs", "2000")
