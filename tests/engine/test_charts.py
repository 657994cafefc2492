"""What decorates a run never ends it."""

import pytest

from dassl_vr.engine.charts import attempt
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
