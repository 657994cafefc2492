"""Machines with accelerators, which are made up here: what is chosen on them, and what is done where they lack something."""

import copy
from types import SimpleNamespace

import pytest
import torch

from dassl_vr.cli.predict import main as predict
from dassl_vr.cli.train import main as train
from dassl_vr.reprogramming import MAPPING_REGISTRY
from dassl_vr.reprogramming.inputs.smm import MaskGenerator
from dassl_vr.utils import devices, seeding
from dassl_vr.utils.devices import (
    Recorder,
    check_precision,
    choose_device,
    compensated_sum,
    device_label,
    fastest_precision,
    has_float64,
    has_graphs,
    open_device,
    peak_bytes,
    pins_memory,
    shortcomings,
    take_device,
)
from dassl_vr.utils.environment import collect_env_info, device_name, peak_memory_bytes
from dassl_vr.utils.errors import ConfigError
from dassl_vr.utils.seeding import get_random_states, set_random_states
from dassl_vr.utils.training_state import random_states_problem


class Machine:
    """One kind of accelerator. `module` stands for `torch.<kind>`."""

    def __init__(self, monkeypatch, kind, count=1, **module):
        self.states = [torch.full((4,), number, dtype=torch.uint8) for number in range(count)]
        self.current = []
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device(kind) if kind else None)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.accelerator, "set_device_index", self.current.append)
        monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(**module))
        for function in (has_float64, has_graphs, pins_memory):
            function.cache_clear()

    def all_states(self):
        return [state.clone() for state in self.states]

    def set_all_states(self, states):
        self.states = states

    def one_state(self):
        return self.states[0].clone()

    def set_one_state(self, state):
        self.states = [state]


@pytest.fixture
def machine(monkeypatch):
    yield lambda kind="", count=1, **module: Machine(monkeypatch, kind, count, **module)
    for function in (has_float64, has_graphs, pins_memory):
        function.cache_clear()


# ----------------------------------------------------------------------------------------------------------------- the choice
@pytest.mark.parametrize(
    "kind, name, use_cuda, expected",
    [
        ("", "auto", True, "cpu"),
        ("cuda", "auto", True, "cuda"),
        ("cuda", "auto", False, "cpu"),
        ("mps", "auto", True, "mps"),
        ("xpu", "cpu", True, "cpu"),
        ("xpu", "xpu", True, "xpu"),
        ("cuda", "cuda:1", True, "cuda:1"),
    ],
)
def test_what_is_chosen(machine, kind, name, use_cuda, expected):
    machine(kind, 2)
    assert choose_device(name, use_cuda) == torch.device(expected)


@pytest.mark.parametrize(
    "kind, name, use_cuda, message",
    [
        ("", "cuda", True, "DEVICE is 'cuda', and there is none that torch can use; expected auto, cpu on this machine"),
        ("mps", "cuda", True, "DEVICE is 'cuda', and there is none that torch can use; expected auto, cpu or mps on this machine"),
        ("cuda", "gpu", True, "DEVICE is 'gpu', which torch does not know; expected auto, cpu or cuda on this machine"),
        ("cuda", "", True, "DEVICE is '', which torch does not know"),
        ("cuda", "meta", True, "DEVICE is 'meta', and there is none"),
        ("cuda", "cuda:2", True, "DEVICE is 'cuda:2', but torch finds 2, numbered from 0"),
        ("cuda", "cuda", False, "DEVICE is 'cuda' and USE_CUDA is False, which asks for the CPU"),
    ],
)
def test_what_cannot_be_chosen(machine, kind, name, use_cuda, message):
    machine(kind, 2)
    with pytest.raises(ConfigError) as caught:
        choose_device(name, use_cuda)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_device_that_cannot_be_used(machine, monkeypatch):
    there = machine("cuda", 2)
    monkeypatch.setattr(torch, "empty", lambda *args, device: torch.zeros(0))
    assert open_device("cuda:1") == torch.device("cuda:1") and there.current == [torch.device("cuda:1")]

    def busy(*args, device):
        raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable\nfor debugging ...")

    monkeypatch.setattr(torch, "empty", busy)
    with pytest.raises(ConfigError, match=r"^device 'cuda' cannot be used \(CUDA-capable device\(s\) is/are busy or unavailable\)"):
        open_device("auto")


@pytest.mark.parametrize("value, word", [("xpu", "there is none that torch can use"), ("gpu", "torch does not know")])
def test_a_run_on_a_device_that_is_not_there_is_one_line(tiny_command, tmp_path, capsys, value, word):
    assert train(tiny_command(tmp_path / "run", "DEVICE", value)) == 2
    assert train(["--eval-only", "--model-dir", str(tmp_path), "DEVICE", value, "TRAINER.NAME", "SMM"]) == 2
    (tmp_path / "one.png").touch()
    assert predict([str(tmp_path), str(tmp_path / "one.png"), "--device", value]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(word in line and line.startswith("error: ") for line in lines)
    assert not (tmp_path / "run").exists()


def test_processes_take_a_device_each(machine):
    assert take_device(torch.device("cpu"), 1, 8) == "gloo"
    for kind, backend in (("cuda", "nccl"), ("xpu", "xccl")):
        there = machine(kind, 2)
        assert take_device(torch.device(kind), 1, 2) == f"cpu:gloo,{kind}:{backend}" and there.current == [1]
        with pytest.raises(ConfigError, match="--nproc_per_node 3 with 2"):
            take_device(torch.device(kind), 0, 3)
    with pytest.raises(ConfigError, match="DEVICE is 'cuda:1', one device, for 2 processes"):
        take_device(torch.device("cuda:1"), 0, 2)
    machine("mtia", 2)
    with pytest.raises(ConfigError, match="no backend for devices of kind mtia; take one process"):
        take_device(torch.device("mtia"), 0, 2)


# ------------------------------------------------------------------------------------------------------- what a device lacks
def test_double_precision(machine, monkeypatch):
    machine("xpu")
    assert has_float64(torch.device("cpu")) and has_float64(torch.device("cuda")) and not has_float64(torch.device("mps"))
    for number, has in enumerate((True, False)):
        monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device, has=has: SimpleNamespace(has_fp64=has))
        assert has_float64(torch.device("xpu", number)) is has


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 57_344])
@pytest.mark.parametrize("kind", ["noise", "equal values", "large and small"])
def test_sums_of_pairs_are_those_of_double_precision(kind, count):
    x = torch.randn(4, count, generator=torch.Generator().manual_seed(0))
    if kind == "equal values":
        x = torch.full_like(x, 0.1)
    elif kind == "large and small":
        x[:, ::2] *= 1e6
        x[:, 1::2] -= x[:, ::2][:, : x[:, 1::2].shape[1]]  # what is large cancels out
    exact = x.double().sum(dim=1)
    assert torch.allclose(compensated_sum(x).double(), exact, rtol=2e-7, atol=1e-8 * float(x.abs().max()))
    if count > 1000 and kind == "equal values":
        one_by_one = x.numpy().cumsum(axis=1, dtype="float32")[:, -1]
        assert abs(one_by_one - exact.numpy()).max() > 100 * (compensated_sum(x).double() - exact).abs().max()


@pytest.mark.parametrize("size", [32, 30])
def test_the_mask_generator_without_double_precision(monkeypatch, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, size, size, generator=generator) * 2
    x[:, :, :8] = -2.1  # a black border
    torch.manual_seed(0)
    with_double = MaskGenerator()
    without = copy.deepcopy(with_double)
    masks = []
    for module, has in ((with_double, True), (without, False)):
        monkeypatch.setattr(devices, "has_float64", lambda device, has=has: has)
        masks.append(module(x))
        masks[-1].square().sum().backward()
    assert torch.allclose(*masks, rtol=1e-5, atol=1e-6)
    largest = max(float(p.grad.abs().max()) for p in with_double.parameters())
    for (name, p), q in zip(with_double.named_parameters(), without.parameters()):
        assert torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6 * largest), name
    for (name, a), b in zip(with_double.named_buffers(), without.buffers()):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize("name", ["blm", "blm+"])
def test_label_mappings_without_double_precision_have_the_same_bits(monkeypatch, name):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 40, generator=generator), torch.randint(0, 20, (50,), generator=generator)
    weights = []
    for has in (True, False):
        monkeypatch.setattr(devices, "has_float64", lambda device, has=has: has)
        mapping = MAPPING_REGISTRY.get(name)(40, 20)
        mapping.reset()
        mapping.observe(logits, labels)
        mapping.update()
        weights.append(mapping.weights)
    assert torch.equal(*weights) and weights[0].any()


def test_page_locked_memory(machine, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: True)
    machine("cuda")
    assert pins_memory(torch.device("cuda")) and not pins_memory(torch.device("cpu")) and not pins_memory(torch.device("mps"))

    def none(self):
        raise RuntimeError("Cannot access accelerator device when none is available.")

    monkeypatch.setattr(torch.Tensor, "pin_memory", none)
    assert not pins_memory(torch.device("xpu"))


def test_precision(machine):
    machine("cuda", is_bf16_supported=lambda: True)
    assert fastest_precision(torch.device("cuda")) == "bf16"
    machine("cuda", is_bf16_supported=lambda: False)
    assert fastest_precision(torch.device("cuda")) == "fp16"
    machine("mps")
    assert fastest_precision(torch.device("mps")) == "fp32"
    check_precision("fp32", torch.device("meta"))
    check_precision("bf16", torch.device("mps"))
    with pytest.raises(ConfigError, match="TRAIN.PRECISION is bf16; on device 'meta' torch has fp32 alone"):
        check_precision("bf16", torch.device("meta"))


def test_precision_of_a_cpu():
    assert fastest_precision(torch.device("cpu")) == "fp32"


def test_autocast_is_that_of_the_device():
    for device, expected in (("cpu", True), ("meta", False)):
        with devices.autocast(torch.device(device), torch.bfloat16):
            assert devices.is_autocast(torch.device(device)) is expected
            with devices.autocast(torch.device(device), None):
                assert not devices.is_autocast(torch.device(device))


def test_deterministic_algorithms_where_some_are_missing():
    try:
        for device, warns in (("cpu", False), ("cuda", True), ("mps", True)):
            seeding.set_deterministic(True, torch.device(device))
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled() is warns
    finally:
        seeding.set_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_is_missing_is_told(machine, monkeypatch):
    assert shortcomings(torch.device("cpu"), True, True) == []
    machine("mps")
    lines = shortcomings(torch.device("mps"), True, True)
    assert [line.split()[1:4] for line in lines[:2]] == [["has", "no", "double"], ["takes", "no", "page-locked"]] and len(
        lines
    ) == 3
    assert "deterministic form on mps" in lines[2]
    assert len(shortcomings(torch.device("mps"), False, False)) == 1
    machine("cuda")
    monkeypatch.setattr(devices, "pins_memory", lambda device: True)
    assert shortcomings(torch.device("cuda"), True, False) == []


# ----------------------------------------------------------------------------------------------------------- graphs of its work
def test_which_devices_have_graphs(machine, monkeypatch):
    def none():
        raise RuntimeError("Graph is not supported on device type: mps")

    machine("cuda")
    monkeypatch.setattr(torch.accelerator, "Graph", object, raising=False)
    assert has_graphs(torch.device("cuda")) and not has_graphs(torch.device("cpu")) and not has_graphs(torch.device("meta"))
    machine("mps")
    monkeypatch.setattr(torch.accelerator, "Graph", none)
    assert not has_graphs(torch.device("mps"))
    machine("xpu")
    monkeypatch.delattr(torch.accelerator, "Graph")  # an older torch
    assert not has_graphs(torch.device("xpu"))


def test_what_is_recorded_waits_for_the_work_before_and_is_waited_for(monkeypatch):
    events = []

    class Stream:
        def __init__(self, name):
            self.name = name if name == "current" else "own"

        def wait_stream(self, other):
            events.append(f"{self.name} waits for {other.name}")

        def __enter__(self):
            events.append(f"on {self.name}")

        def __exit__(self, *_):
            events.append(f"off {self.name}")

    class Graph:
        def __init__(self, pool, capture_error_mode):
            events.append(f"graph in pool {pool}, {capture_error_mode}")

        def __enter__(self):
            events.append("begin")

        def __exit__(self, *_):
            events.append("end")

        def pool(self):
            return 7

        def replay(self):
            events.append("replay")

    monkeypatch.setattr(torch, "Stream", Stream)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: Stream("current"))
    monkeypatch.setattr(torch.accelerator, "Graph", Graph, raising=False)
    recorder = Recorder(torch.device("cuda"))
    for pool in (None, 7):  # all share the memory of the first
        result, replay = recorder.record(lambda: events.append("work") or "result")
        assert result == "result" and events[0] == f"graph in pool {pool}, thread_local"
        around = ["own waits for current", "on own"], ["off own", "current waits for own"]
        assert events[1:] == [*around[0], "begin", "work", "end", *around[1]]
        replay()
        assert events.pop() == "replay"
        events.clear()


# --------------------------------------------------------------------------------------------------- what it says of itself
def test_names(machine, monkeypatch):
    machine("cuda", 2, get_device_name=lambda device: f"NVIDIA H100 no. {device.index}")
    assert device_name(torch.device("cuda:1")) == "NVIDIA H100 no. 1"
    text = collect_env_info()
    assert "cuda 0: NVIDIA H100 no. 0\ncuda 1: NVIDIA H100 no. 1\n" in text
    assert ("cuda version: " in text) is bool(torch.version.cuda)
    machine("mps")
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M3")
    assert device_name(torch.device("mps")) == "Apple M3"
    machine("hpu")
    assert device_name(torch.device("hpu")) == "hpu"
    machine()
    assert device_label(torch.device("cpu")) is None and device_name(torch.device("cpu")) and "cuda" not in collect_env_info()


def test_peak_memory(machine, monkeypatch):
    machine("xpu")
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda device: 5 << 30)
    assert peak_memory_bytes(torch.device("xpu")) == 5 << 30 and peak_bytes(torch.device("cpu")) is None

    def not_counted(device):
        raise RuntimeError("Allocator for mps is not a DeviceAllocator.")

    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", not_counted)
    assert peak_bytes(torch.device("mps")) is None
    assert 0 < peak_memory_bytes(torch.device("mps")) < 5 << 30, "that of the process"


# ------------------------------------------------------------------------------------------------------------- random numbers
def test_states_of_an_accelerator_come_back(machine):
    there = machine("cuda", 2)
    there = machine(
        "cuda", 2, get_rng_state_all=lambda: there.all_states(), set_rng_state_all=lambda states: there.set_all_states(states)
    )
    saved = get_random_states()
    assert list(saved["accelerator"]) == ["cuda"] and len(saved["accelerator"]["cuda"]) == 2
    there.states = [torch.zeros(4, dtype=torch.uint8)] * 2
    set_random_states(saved)
    assert [state.tolist() for state in there.states] == [[0] * 4, [1] * 4]


def test_states_of_an_accelerator_with_one_generator(machine):
    there = machine("mps")
    there = machine("mps", get_rng_state=lambda: there.one_state(), set_rng_state=lambda state: there.set_one_state(state))
    there.states = [torch.full((4,), 7, dtype=torch.uint8)]
    saved = get_random_states()
    there.states = [torch.zeros(4, dtype=torch.uint8)]
    set_random_states(saved)
    assert there.states[0].tolist() == [7] * 4


def test_an_accelerator_that_nobody_used_is_not_started(machine):
    machine("cuda", 2, is_initialized=lambda: False)  # and it has no function that gives states
    assert get_random_states()["accelerator"] == {}


def test_a_run_continues_on_another_device(machine):
    """What was written on one machine is taken on another, whatever that has."""
    seeding.set_random_seed(3)
    saved = get_random_states()
    state = torch.zeros(16, dtype=torch.uint8)
    for found in ({"cuda": [state] * 8}, {"mps": [state]}, {}):
        for kind, count in (("", 0), ("xpu", 1), ("cuda", 2)):
            if kind in found:
                continue
            machine(kind, count)
            states = {**saved, "accelerator": found}
            assert random_states_problem(states, "random_states") == ""
            set_random_states(states)
            assert torch.equal(torch.get_rng_state(), saved["torch"])


def test_states_that_are_none_are_refused(machine, monkeypatch):
    saved = {**get_random_states(), "accelerator": {"cpu": [torch.zeros(3, dtype=torch.uint8)]}}
    machine("cpu")  # as if the generator of a CPU were that of an accelerator
    assert "is no state of a generator" in random_states_problem(saved, "random_states")


def test_states_of_before_the_accelerator_had_a_name(machine):
    saved = get_random_states()
    del saved["accelerator"]
    machine()
    assert random_states_problem({**saved, "cuda": []}, "random_states") == ""
    set_random_states({**saved, "cuda": [torch.zeros(16, dtype=torch.uint8)]})
    assert "random_states" in random_states_problem({**saved, "cuda": 5}, "random_states")
