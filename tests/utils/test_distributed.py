"""What processes of one run tell each other."""

import os
import signal
import time

import pytest
import torch

from dassl_vr.utils import distributed
from dassl_vr.utils.errors import ConfigError, LostProcessError


def test_alone_everything_is_a_no_op(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):  # of some batch system: no torchrun, no group
        monkeypatch.setenv(name, "3")
    assert not distributed.is_parallel() and distributed.is_main() and distributed.StepShare().value == 1
    x = torch.ones(2)
    with distributed.process_group():
        assert distributed.sum_(x) is x and distributed.gather(x)[0] is x
        assert distributed.sums(2, 3.5) == [2, 3.5] and distributed.from_main("a") == "a" and distributed.is_first_to_report()


def test_what_three_processes_tell_each_other(processes, capfd):
    def tell():
        with distributed.process_group(use_cuda=False):
            me = distributed.rank()
            print(f"I am {me}")
            return {
                "sums": distributed.sums(me, 1),
                "parts": [part.tolist() for part in distributed.gather(torch.full((me, 2), me))],
                "values": distributed.gather_values({"é": me}),
                "main": distributed.from_main(me),
                "any": [distributed.any_process(me == 2), distributed.any_process(False)],
            }

    results = processes(3, tell)
    expected = {
        "sums": [3, 3],
        "parts": [[], [[1, 1]], [[2, 2], [2, 2]]],
        "values": [{"é": 0}, {"é": 1}, {"é": 2}],
        "main": 0,
        "any": [True, False],
    }
    assert results == [(0, expected)] * 3
    assert capfd.readouterr().out == "I am 0\n", "the main process alone prints"


@pytest.mark.parametrize("dead", [0, 1])
def test_a_killed_process_ends_the_others_soon_and_one_of_them_says_so(processes, dead):
    def die_or_wait():
        began = time.monotonic()
        try:
            with distributed.process_group(use_cuda=False):
                distributed.barrier()
                if distributed.rank() == dead:
                    os.kill(os.getpid(), signal.SIGKILL)
                distributed.sums(1)
        except LostProcessError as error:
            return ["--resume" in str(error), distributed.is_first_to_report(), time.monotonic() - began < 20]
        return None

    results = processes(3, die_or_wait)
    assert results.pop(dead) == (-signal.SIGKILL, None)
    assert all(code == 0 and lost and soon for code, (lost, _, soon) in results)
    assert sum(tells for _, (_, tells, _) in results) == 1


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="nproc_per_node 2 with 1 GPU"):
        with distributed.process_group():
            pass
