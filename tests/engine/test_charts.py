"""What decorates a run never ends it; what a run says of itself is what TensorBoard shows first."""

from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context

from dassl_vr.config import get_cfg_default
from dassl_vr.engine.charts import FINAL, POINTS, SHOWN, attempt, on_curve, write_outcome
from dassl_vr.engine.events import EventWriter
from dassl_vr.utils.errors import LostProcessError, RunInterrupted


def failing(error):
    raise error


@pytest.mark.parametrize("error", [ImportError("no such backend"), ValueError("$1\nis no formula"), MemoryError(), KeyError("x")])
def test_a_failure_is_one_warning(capsys, error):
    assert attempt("the pattern", failing, error) is False
    err = capsys.readouterr().err
    assert err.startswith("warning: the pattern could not be drawn") and err.count("\n") == 1


@pytest.mark.parametrize("error", [RunInterrupted("asked to end"), LostProcessError("gone"), KeyboardInterrupt()])
def test_exceptions_that_end_the_run_pass_through(error):
    with pytest.raises(type(error)):
        attempt("the pattern", failing, error)


def test_a_success_says_nothing(capsys):
    assert attempt("the pattern", print, "drawn") is True
    assert capsys.readouterr() == ("drawn\n", "")


def test_the_table_of_hyperparameters_begins_with_what_a_run_is(tmp_path):
    """As TensorBoard's server gives it to the page, which shows the first five."""
    writer = EventWriter(str(tmp_path))
    cfg = get_cfg_default()
    cfg.TRAINER.NAME, cfg.DATASET.NAME = "CoOp", "digits"
    results = {"test": {"accuracy": 81.5, "macro_f1": 80.0}, "train": {"accuracy": 99.0}}
    trainer = SimpleNamespace(cfg=cfg, results=results, max_epoch=3, _writer=writer, steps_done=lambda: 12)
    trainer.write_scalar = writer.add_scalar
    write_outcome(trainer)
    runs = EventMultiplexer({"run": str(tmp_path)}).Reload()
    hparams = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(tmp_path))))
    ctx = RequestContext()
    experiment = hparams.experiment_from_metadata(ctx, "", True, hparams.hparams_metadata(ctx, ""), [])
    assert [column.name for column in experiment.hparam_infos][:5] == list(SHOWN)
    metrics = [(metric.name.tag, metric.display_name) for metric in experiment.metric_infos]
    assert metrics == [(f"{FINAL}/accuracy", "accuracy"), (f"{FINAL}/macro_f1", "macro_f1")]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]} == {
        f"{FINAL}/accuracy": [(12, 81.5)],
        f"{FINAL}/macro_f1": [(12, 80.0)],
        f"{FINAL}/accuracy on training images": [(12, 99.0)],
    }


@pytest.mark.parametrize(("epochs", "batches", "gap"), [(3, 4, 1), (1, POINTS, 1), (200, 195, 10), (1, 7_000, 1)])
def test_a_curve_has_a_bounded_number_of_points(epochs, batches, gap):
    of_epoch = [*range(gap, batches, gap), batches]
    logged = [epoch * batches + batch for epoch in range(epochs) for batch in of_epoch]
    written = [step for step in logged if on_curve(step, gap, epochs * batches)]
    assert written == logged if len(logged) <= POINTS else 0.9 * POINTS < len(written) < 1.1 * POINTS
