"""What a task of Ray says."""

import os

from dassl_vr.runs.on_ray import run_task


def test_a_machine_that_does_not_see_the_directory(tmp_path):
    problem, preempted = run_task(str(tmp_path / "here"), {})
    assert f"does not see {tmp_path / 'here'}" in problem and not preempted and not os.listdir(tmp_path)
