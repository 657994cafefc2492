import pytest
import torch

from dassl_vr.utils.meters import AverageMeter, MetricMeter


def test_average_is_weighted_by_the_number_of_items():
    meter = AverageMeter()
    meter.update(torch.tensor(1.0), n=3)
    meter.update(5.0, n=1)
    assert (meter.val, meter.sum, meter.count, meter.avg) == (5.0, 8.0, 4, 2.0)


def test_an_empty_average_is_zero():
    assert AverageMeter().avg == 0


def test_metric_meter_prints_value_and_average():
    meter = MetricMeter()
    meter.update({"loss": torch.tensor(2.0, requires_grad=True), "acc": 10})
    meter.update({"loss": 1.0, "acc": 20})
    meter.update(None)
    assert str(meter) == "loss 1.0000 (1.5000) acc 20.0000 (15.0000)"
    with pytest.raises(TypeError):
        meter.update([1])
