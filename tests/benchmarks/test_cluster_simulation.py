"""Runs on machines that come and go end as those that nothing disturbs."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_on_machines_that_come_and_go(repository, tmp_path):
    """Without retries: that a machine dies is no failure of a run."""
    pytest.importorskip("ray")
    command = [sys.executable, repository / "benchmarks/cluster_simulation.py", "--runs", "40", "--every", "8", "--seed", "1"]
    command += ["--retries", "0"]
    done = subprocess.run([*command, "--output", tmp_path], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^runs +40, 0 failed$", done.stdout, re.MULTILINE)
    assert re.search(r"^different from the undisturbed +0$", done.stdout, re.MULTILINE)
    assert re.search(r"^machines that went +[1-9]", done.stdout, re.MULTILINE)
    assert re.search(r"^machines that came +([3-9]|\d\d)", done.stdout, re.MULTILINE), "another one comes for one that went"
