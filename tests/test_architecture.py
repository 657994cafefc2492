"""The packages import one another in one direction, nothing grows too large, and public functions have types.

Exceptions are listed here, each with a reason.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = {
    "dassl_vr": REPOSITORY / "dassl_vr",
    "dassl_vr.trainers": REPOSITORY / "trainers",
    "dassl_vr.datasets": REPOSITORY / "datasets",
}
MAX_CLASS, MAX_MODULE = 200, 400  # lines

# What a package may import besides itself. Single modules of the top level count as packages.
UTILS = {"utils", "home", "names", ""}
LEVEL_0 = UTILS | {"config"}
DATA = LEVEL_0 | {"data"}
LEVEL_1 = LEVEL_0 | {"data", "backbones", "evaluation", "optim"}
ENGINE = LEVEL_1 | {"engine"}
METHODS = ENGINE | {"methods", "reprogramming", "prompting", "trainers", "datasets"}
PLUGINS = METHODS | {"plugins"}
RUNS = PLUGINS | {"runs", "report", "deploy", "paper"}
ALLOWED = {
    "": UTILS | {"deploy"},  # `dassl_vr.load_prompted`
    "home": {"utils"},
    "names": {""},  # `dassl_vr.configs`
    "utils": UTILS,
    "reprogramming": UTILS,
    "prompting": UTILS,
    "config": LEVEL_0,
    "data": LEVEL_1,
    "backbones": LEVEL_1,
    "evaluation": LEVEL_1,
    "optim": LEVEL_1,
    "engine": ENGINE,
    "methods": METHODS,
    "trainers": METHODS,
    "datasets": METHODS,
    "plugins": PLUGINS | {"family"},  # an entry point: `--plugin`
    "register": {"family"},  # an entry point: `import dassl_vr.register`
    "runs": RUNS,
    "report": RUNS,
    "deploy": RUNS,
    "paper": PLUGINS | {"runs"},
    "cli": RUNS | {"cli"},
    "family": RUNS | {"family"},
}

# (module, package that it imports): why
NAMES_OF_DATA = "the small models were trained on this data set and know its classes"
TYPE = "the type of an argument; nothing is imported when it runs"
IMPORT_EXCEPTIONS = {
    ("dassl_vr.report.__main__", "cli"): "the door of a command, which lies in cli: `python -m dassl_vr.report`",
    ("dassl_vr.backbones.tiny", "datasets"): NAMES_OF_DATA,
    ("dassl_vr.backbones.tiny.captions", "datasets"): NAMES_OF_DATA,
    ("dassl_vr.backbones.tiny.images", "datasets"): NAMES_OF_DATA,
    ("dassl_vr.prompting.text", "backbones"): "the loop over the layers of CLIP's towers is to be passed to it",
    ("dassl_vr.prompting.tokens", "backbones"): TYPE,
    ("dassl_vr.paper.columns", "report"): TYPE,
    ("dassl_vr.paper.table", "report"): TYPE,
}
# module, or module:class: why it is larger
SIZE_EXCEPTIONS = {}


@functools.cache
def modules() -> dict[str, Path]:
    """{name: file} of all of ours."""
    found = {}
    for name, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((name, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def package_of(module: str) -> str:
    """`data` of `dassl_vr.data.loader`, "" of `dassl_vr` itself."""
    return module.split(".")[1] if "." in module else ""


def imported(module: str, path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, inside functions too. Of `from a import b`, `a.b` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + (path.name == "__init__.py")]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            targets = [full if (full := f"{base}.{alias.name}") in modules() else base for alias in node.names]
        else:
            continue
        yield from (target for target in targets if target.partition(".")[0] == "dassl_vr")


def wrong_imports() -> dict[tuple[str, str], str]:
    """{(module, package): the import} of all that go against the direction."""
    found = {}
    for module, path in modules().items():
        for target in imported(module, path):
            package, other = package_of(module), package_of(target)
            if other != package and other not in ALLOWED[package]:
                found[module, other] = f"{module} imports {target}"
    return found


def too_large() -> dict[str, int]:
    """{module or module:class: lines} of all that are too large."""
    found = {}
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        if lines > MAX_MODULE:
            found[module] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno + 1 > MAX_CLASS:
                found[f"{module}:{node.name}"] = node.end_lineno - node.lineno + 1
    return found


def public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Functions and methods without a leading underscore, those inside of functions left out."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def without_types(function: ast.FunctionDef) -> list[str]:
    """Names of the arguments that lack a type, and `return` if what it returns does."""
    every = function.args
    arguments = [*every.posonlyargs, *every.args, *every.kwonlyargs]
    missing = [argument.arg for argument in arguments if argument.annotation is None and argument.arg not in ("self", "cls")]
    return missing + ["return"] * (function.returns is None)


def test_every_package_has_its_place():
    packages = {package_of(module) for module in modules()}
    assert packages == ALLOWED.keys()


def test_imports_go_one_way():
    wrong = {key: line for key, line in wrong_imports().items() if key not in IMPORT_EXCEPTIONS}
    assert not wrong, "\n".join(wrong.values())


def test_no_class_and_no_module_is_too_large():
    assert {name: lines for name, lines in too_large().items() if name not in SIZE_EXCEPTIONS} == {}


@pytest.mark.parametrize("listed, needed", [(IMPORT_EXCEPTIONS, wrong_imports), (SIZE_EXCEPTIONS, too_large)])
def test_every_exception_is_still_needed(listed, needed):
    assert listed.keys() <= needed().keys(), "remove what is no longer needed"


def test_the_reader_of_imports_sees_all_forms(tmp_path):
    path = tmp_path / "loader.py"
    path.write_text(
        "import os, dassl_vr.cli.train\nfrom ..engine import trainer\nfrom . import samplers\nfrom .. import __version__\n"
        "def f():\n    from ..family.modeling import MLP\n"
    )
    assert list(imported("dassl_vr.data.loader", path)) == [
        "dassl_vr.cli.train",
        "dassl_vr.engine.trainer",
        "dassl_vr.data.samplers",
        "dassl_vr",
        "dassl_vr.family.modeling",
    ]


def test_public_functions_have_types():
    found = {}
    for module, path in modules().items():
        for function in public_functions(ast.parse(path.read_text(encoding="utf-8")).body):
            if missing := without_types(function):
                found[f"{module}.{function.name}, line {function.lineno}"] = missing
    assert not found


def test_the_reader_of_types_sees_what_is_missing():
    source = "class A:\n def f(self, x, *, y: int): ...\n def _g(self, x): ...\ndef h(x: int) -> int: ...\n"
    assert {f.name: without_types(f) for f in public_functions(ast.parse(source).body)} == {"f": ["x", "return"], "h": []}


KINDS_OF_DEVICES = {"cuda", "mps", "xpu"}
# Module: why it names a kind of device
NAME_A_DEVICE = {
    "dassl_vr.utils.devices": "the one place",
    "dassl_vr.utils.seeding": "the name of an entry in older resume files",
    "dassl_vr.utils.training_state": "likewise",
    "dassl_vr.family.host": "where the original Dassl computes",
}


def named_devices(tree: ast.AST) -> set[str]:
    """Kinds of devices in a module: as strings, also with a number, or as an attribute (`torch.cuda`)."""
    strings = {
        node.value.partition(":")[0] for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return (strings | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}) & KINDS_OF_DEVICES


def test_kinds_of_devices_are_named_in_one_place():
    found = {module for module, path in modules().items() if named_devices(ast.parse(path.read_text(encoding="utf-8")))}
    assert found == NAME_A_DEVICE.keys()


def test_the_reader_of_devices_sees_both_forms():
    assert named_devices(ast.parse("torch.device('cuda:1')\nx.to('cpu')")) == {"cuda"}
    assert named_devices(ast.parse("if torch.xpu.is_available(): ...")) == {"xpu"}
    assert not named_devices(ast.parse("'on cuda, or mps'"))


def test_saved_random_states_are_those_of_named_devices():
    """Of several GPUs torch takes all otherwise, and warns of it in five lines."""
    calls = []
    for place in ("dassl_vr", "trainers", "datasets", "benchmarks", "tests"):
        for path in (REPOSITORY / place).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            nodes = ast.walk(ast.parse(text)) if "fork_rng" in text else ()
            calls += [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fork_rng"]
    assert len(calls) > 5 and all("devices" in {keyword.arg for keyword in call.keywords} for call in calls)


def test_signal_handlers_are_set_in_one_place():
    setting = [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "dassl_vr").rglob("*.py")
        if any(
            isinstance(node, ast.Attribute) and ast.unparse(node) == "signal.signal"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert setting == ["dassl_vr/utils/signals.py"]
