"""The evaluator's numbers, and the lines that parsers of the family's logs read."""

import re

import pytest
import torch

from dassl_vr.config import get_cfg_default
from dassl_vr.evaluation import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator
from dassl_vr.utils.errors import ConfigError, DataError

TRUE = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 2, 1]
NAMES = {0: "cat", 1: "dog", 2: "eel", 3: "fox"}


def evaluator(tmp_path, **keys):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    for key, value in keys.items():
        cfg.TEST[key] = value
    return build_evaluator(cfg, lab2cname=NAMES)


def feed(measure, true=TRUE, predicted=PREDICTED, batch=4):
    scores = torch.nn.functional.one_hot(torch.tensor(predicted), 4).float()
    for i in range(0, len(true), batch):
        measure.process(scores[i : i + batch], torch.tensor(true[i : i + batch]))


def test_numbers_worked_out_manually(tmp_path):
    measure = evaluator(tmp_path)
    feed(measure)
    results = measure.evaluate()
    # F1: class 0 has 2 hits of 2 predicted and 3 true, class 1 has 1 hit of 3 predicted and 2 true, class 2 none
    macro_f1 = (2 * 2 / (2 + 3) + 2 * 1 / (3 + 2) + 0) / 3
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert list(results.values()) == pytest.approx([50.0, 50.0, 100 * macro_f1])
    assert all(type(value) is float for value in results.values())


def test_the_printed_block(tmp_path, capsys):
    measure = evaluator(tmp_path)
    feed(measure, TRUE * 500, PREDICTED * 500, batch=32)
    measure.evaluate()
    assert capsys.readouterr().out == (
        "=> result\n* total: 3,000\n* correct: 1,500\n* accuracy: 50.0%\n* error: 50.0%\n* macro_f1: 40.0%\n"
    )


def test_the_family_s_parser_finds_the_accuracy(tmp_path, capsys):
    measure = evaluator(tmp_path, PER_CLASS_RESULT=True)
    feed(measure)
    measure.evaluate()
    lines = capsys.readouterr().out.split("=> result\n")[1].splitlines()
    found = [re.match(r"\* accuracy: ([\.\deE+-]+)%", line) for line in lines]
    assert [match.group(1) for match in found if match] == ["50.0"]


def test_per_class_result(tmp_path, capsys):
    measure = evaluator(tmp_path, PER_CLASS_RESULT=True)
    feed(measure)
    assert measure.evaluate()["perclass_accuracy"] == pytest.approx((200 / 3 + 50 + 0) / 3)
    assert capsys.readouterr().out.endswith(
        "=> per-class result\n"
        "* class: 0 (cat)\ttotal: 3\tcorrect: 2\tacc: 66.7%\n"
        "* class: 1 (dog)\ttotal: 2\tcorrect: 1\tacc: 50.0%\n"
        "* class: 2 (eel)\ttotal: 1\tcorrect: 0\tacc: 0.0%\n"
        "* average: 38.9%\n"
    )


def test_confusion_matrix_file(tmp_path, capsys):
    measure = evaluator(tmp_path, COMPUTE_CMAT=True)
    feed(measure)
    measure.evaluate()
    matrix = torch.load(tmp_path / "out" / "cmat.pt", weights_only=True)
    expected = [[2 / 3, 1 / 3, 0, 0], [0, 0.5, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert torch.allclose(matrix, torch.tensor(expected, dtype=matrix.dtype))
    assert str(tmp_path / "out" / "cmat.pt") in capsys.readouterr().out


def test_reset_forgets(tmp_path):
    measure = evaluator(tmp_path)
    feed(measure)
    measure.reset()
    feed(measure, [1, 1], [1, 1])
    assert measure.evaluate()["accuracy"] == 100.0


def test_nothing_is_read_back_before_the_end(tmp_path):
    """On the meta device there are no values to read: `process` must not ask for any."""
    measure = evaluator(tmp_path)
    measure.process(torch.zeros(5, 4, device="meta"), torch.zeros(5, dtype=torch.int64, device="meta"))


def test_user_errors(tmp_path):
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluator(tmp_path).evaluate()
    cfg = get_cfg_default()
    cfg.TEST.PER_CLASS_RESULT = True
    with pytest.raises(ConfigError, match="PER_CLASS_RESULT"):
        Classification(cfg)
    cfg.TEST.EVALUATOR = "Clasification"
    with pytest.raises(ConfigError, match="did you mean 'Classification'"):
        build_evaluator(cfg)


def test_a_registered_evaluator_is_built():
    @EVALUATOR_REGISTRY.register(name="OfATest")
    class OfATest(EvaluatorBase):
        def __init__(self, cfg, colour):
            super().__init__(cfg)
            self.colour = colour

    cfg = get_cfg_default()
    cfg.TEST.EVALUATOR = "OfATest"
    assert build_evaluator(cfg, colour="red").colour == "red"
