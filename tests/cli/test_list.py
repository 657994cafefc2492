"""What there is, by kind."""

import pytest

from dassl_vr.backbones import ALIASES
from dassl_vr.cli.list import main
from dassl_vr.cli.train import main as train
from dassl_vr.data import DATASET_REGISTRY
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.names import LISTS
from dassl_vr.reprogramming.inputs import INPUT_REGISTRY
from dassl_vr.reprogramming.mappings import MAPPING_REGISTRY

PLUGIN = """
from dassl_vr.reprogramming.inputs import INPUT_REGISTRY, InputPrompt

if "of_the_test" not in INPUT_REGISTRY:
    @INPUT_REGISTRY.register(name="of_the_test")
    class Listed(InputPrompt):
        \"\"\"What the test brings (Nobody et al. 2020). More.\"\"\"
"""


@pytest.fixture
def listed(capsys):
    def names(main, *words):
        assert main(list(words)) == 0
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()]

    return names


def test_every_kind_is_listed(listed, repository):
    names = {kind: listed(main, kind) for kind in LISTS}
    registries = {
        "trainers": TRAINER_REGISTRY,
        "datasets": DATASET_REGISTRY,
        "inputs": INPUT_REGISTRY,
        "mappings": MAPPING_REGISTRY,
    }
    for kind, registry in registries.items():
        assert sorted(names[kind]) == sorted(registry.registered_names())
    assert set(ALIASES) < set(names["backbones"])
    shipped = {path.relative_to(repository).as_posix() for path in (repository / "configs/trainers").rglob("*.yaml")}
    assert set(names["recipes"]) == shipped


def test_plug_ins_are_listed(tmp_path, capsys):
    (tmp_path / "listed_plugin.py").write_text(PLUGIN)
    try:
        assert train(["--list", "inputs", "--plugin", str(tmp_path / "listed_plugin.py")]) == 0
    finally:
        INPUT_REGISTRY.remove("of_the_test")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines if line.startswith("of_")] == [
        ["of_the_test", "What the test brings (Nobody et al. 2020)"]
    ]


@pytest.mark.parametrize(("main", "words"), [(main, ["trainer"]), (train, ["--list", "trainer"])])
def test_an_unknown_kind(capsys, main, words):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "trainers" in error and error.count("\n") == 1
