"""Some inputs of tests/fuzz.py each time, two thousand in the slow tier."""

import pytest


@pytest.fixture
def fuzz(repository, run_python):
    def run(*words):
        done = run_python(repository / "tests/fuzz.py", *words)
        print(done.stdout, done.stderr)
        assert done.returncode == 0 and " 0 faults" in done.stdout
        return done.stdout

    return run


def test_fifteen_inputs(fuzz):
    assert "seed 2: 15 inputs" in fuzz("--seed", "2", "--inputs", "15")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_inputs(fuzz):
    assert "seed 1: 2000 inputs" in fuzz("--seed", "1", "--inputs", "2000")
