"""What a task of Ray says."""

import os

from dassl_vr.runs.on_ray import _execute


def test_a_machine_that_does_not_see_the_checkout(tmp_path):
    problem, preempted = _execute(str(tmp_path), "SMM seed 1", [], str(tmp_path / "out"))
    assert f"does not see {tmp_path}" in problem and not preempted and not os.listdir(tmp_path)
