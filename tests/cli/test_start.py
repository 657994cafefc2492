"""How a command starts: `--help` at once, and one line where the libraries are missing."""

import shutil
import subprocess
import sys

import pytest

# No library can be imported under `-S`: what works there imports none
HELP = """
import contextlib, io, runpy, sys
for name in sys.argv[1:]:
    sys.argv = [name, *["smm"] * (name == "dassl_vr.cli.method"), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, name
    assert f"usage: python -m {name.removesuffix('.__main__')} " in out.getvalue().replace("python3", "python"), name
    print(name)
"""


@pytest.fixture
def without_libraries(repository, tmp_path):
    """without_libraries(*words): what became of `python *words` in the checkout, where Python has no library."""

    def run(*words):
        return subprocess.run([sys.executable, "-S", *words], cwd=repository, capture_output=True, text=True)

    return run


def test_help_is_shown_before_any_library_is_imported(without_libraries, repository):
    """Of every command, called as a module."""
    files = (repository / "dassl_vr/cli").glob("*.py")
    commands = [f"dassl_vr.cli.{path.stem}" for path in files if "\ndef main(" in path.read_text()]
    commands.append("dassl_vr.report.__main__")
    done = without_libraries("-c", HELP, *commands)
    assert done.stdout.split() == commands and len(commands) > 10, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["train.py", "--trainer", "SMM"],
        ["predict.py", "model", "image.png"],
        ["-m", "dassl_vr.cli.compare", "digits", "lite0"],
        ["-m", "dassl_vr.cli.method", "smm", "digits", "lite0"],
        ["-m", "dassl_vr.report", "output"],
    ],
)
def test_missing_libraries_are_one_line(without_libraries, words):
    done = without_libraries(*words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: the library '") and ("-m pip install -e " in done.stderr or ".venv" in done.stderr)


def test_missing_libraries_are_one_line_in_scripts_that_import_them_at_their_top(without_libraries, repository):
    scripts = [path for path in (repository / "benchmarks").glob("*.py") if "__main__" in path.read_text()]
    assert len(scripts) > 5
    for path in (repository / "docs/generate.py", *scripts):
        done = without_libraries(path)
        assert done.returncode == 2 and done.stderr.startswith("error: the library '") and done.stderr.count("\n") == 1, path


def test_other_errors_of_a_script(without_libraries):
    script = "from dassl_vr.cli.errors import end_script_in_one_line as end, UserError; end(); raise "
    for error, code, words in (("UserError('no images')", 2, "error: no images\n"), ("KeyError('ours')", 1, "KeyError: 'ours'\n")):
        done = without_libraries("-c", script + error)
        assert done.returncode == code and done.stderr.endswith(words) and ("Traceback" in done.stderr) == (code == 1)


def test_a_python_that_is_too_old_is_one_line(without_libraries):
    done = without_libraries("-c", "import sys; sys.version_info = (3, 9, 18); import dassl_vr.cli.train")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: dassl_vr needs Python 3.10 or newer; ")


def test_the_scripts_start_where_only_python3_is_called_so(repository, tmp_path):
    (tmp_path / "scripts").mkdir()
    for name in ("_python.sh", "smm.sh"):
        (tmp_path / "scripts" / name).write_text((repository / "scripts" / name).read_text())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dirname").symlink_to(shutil.which("dirname"))
    (tmp_path / "bin/basename").symlink_to(shutil.which("basename"))
    (tmp_path / "bin/python3").write_text("#!/bin/sh\necho python3 $*\n")
    (tmp_path / "bin/python3").chmod(0o755)
    command = [shutil.which("bash"), str(tmp_path / "scripts/smm.sh"), "digits", "lite0"]
    done = subprocess.run(command, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True)
    assert done.stdout == "python3 -m dassl_vr.cli.method smm digits lite0\n", done.stderr


def test_the_help_names_what_can_be_chosen(without_libraries):
    from dassl_vr.engine import TRAINER_REGISTRY
    from dassl_vr.names import TRAINERS
    from dassl_vr.plugins import load_plugins

    load_plugins()
    assert all(name in TRAINER_REGISTRY for name in TRAINERS)
    shown = " ".join(without_libraries("train.py", "--help").stdout.split())
    assert ", ".join(TRAINERS) in shown


def test_the_tables_of_the_paper_in_the_help_are_those_that_there_are():
    from dassl_vr.cli.reproduce import shipped_tables
    from dassl_vr.paper import PAPER_REGISTRY

    assert shipped_tables() == {name: PAPER_REGISTRY.get(name).title for name in sorted(PAPER_REGISTRY.registered_names())}
