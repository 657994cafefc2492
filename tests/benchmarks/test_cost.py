"""Counted costs of runs."""

from dassl_vr.plugins import load_plugins
from dassl_vr.runs.cells import Cell


def test_a_run_is_its_images_times_their_operations(benchmark):
    load_plugins()
    cost = benchmark("cost")
    cell = Cell("VR", "full", "cifar10", "tiny_vit", settings=("OPTIM.MAX_EPOCH", "7"))
    step, mapping, prediction = cost.network_costs(cell)
    assert mapping == prediction > 1e7 and 1.8 * prediction < step < 2.2 * prediction, "forward, and the gradient of the input"
    assert cost.run_cost(cell) == 7 * 50_000 * (step + mapping) + 10_000 * prediction
    step, mapping, prediction = cost.network_costs(Cell("LinearProbe", "", "cifar10", "tiny_vit"))
    assert step == prediction > 1e7 and mapping == 0, "nothing in front of its head is trained"
