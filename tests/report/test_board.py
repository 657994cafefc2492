"""Names of runs in TensorBoard."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

import pytest

from dassl_vr.cli.tensorboard import main
from dassl_vr.report.board import link_runs
from dassl_vr.utils.errors import ConfigError
from dassl_vr.utils.signals import interrupt_on_signals


def test_runs_are_linked_by_what_they_are(tmp_path):
    for path in ("digits/SMM/lite0/default/seed1", "digits/VR-full/lite0/short/seed1"):
        (tmp_path / "output" / path / "tensorboard").mkdir(parents=True)
    links = tmp_path / "links"
    assert link_runs(tmp_path / "output", links) == 2
    (tmp_path / "output/digits/CoOp/tiny_clip/default/seed0/tensorboard").mkdir(parents=True)
    assert link_runs(tmp_path / "output", links) == 3, "runs that start later are added"
    found = sorted(str(path.relative_to(links)) for path in links.rglob("*") if path.is_symlink())
    assert found == ["digits/CoOp/tiny_clip/seed0", "digits/SMM/lite0/seed1", "digits/VR-full/lite0/short/seed1"]
    assert (links / found[1]).resolve() == tmp_path / "output/digits/SMM/lite0/default/seed1/tensorboard"


def test_no_such_directory(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert "no such directory" in capsys.readouterr().err


def runs(root, *names):
    for name in names:
        (root / name / "tensorboard").mkdir(parents=True)


def linked(links):
    return {str(path.relative_to(links)): path.resolve().parent for path in links.rglob("*") if path.is_symlink()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/default", "a/b"], ["a/default", "a/b"]),
        (["a", "default/a"], ["a", "default/a"]),
        (["a/default/x", "default/a/x", "b/default"], ["a/default/x", "default/a/x", "b"]),
        (["default", "x"], ["default", "x"]),
        (["a b", "x\\y", "tensorboard2/default"], ["a b", "x\\y", "tensorboard2"]),
    ],
)
def test_names_that_would_collide(tmp_path, names, expected):
    root, links = tmp_path / "root", tmp_path / "links"
    runs(root, *names)
    assert link_runs(root, links) == len(names)
    assert linked(links) == {name: root / run for name, run in zip(expected, names)}
    assert not [path for path in root.rglob("*") if path.is_symlink()], "nothing is made in a run"


def test_runs_come_and_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, links = Path("root"), Path("links")
    for name, expected in (
        ("a/default", {"a"}),
        ("a/b", {"a/default", "a/b"}),
        ("a/default/", {"a/b"}),  # goes
        ("a/b/", {}),
        ("a/default", {"a"}),
    ):
        if name.endswith("/"):
            (root / name / "tensorboard").rmdir()
        else:
            runs(root, name)
        for _ in range(2):
            link_runs(root, links)
            assert set(linked(links)) == set(expected)
    assert not list(root.rglob("a/default/tensorboard/*"))


def test_links_of_the_root_itself(tmp_path):
    runs(tmp_path, "run")
    link_runs(tmp_path / "run", tmp_path / "links")
    assert set(linked(tmp_path / "links")) == {"run"}


@pytest.mark.parametrize("kind", ["file", "directory", "link", "above"])
def test_what_is_there_already_stays(tmp_path, kind):
    root, links, mine = tmp_path / "root", tmp_path / "links", tmp_path / "mine"
    runs(root, "a/b")
    mine.mkdir()
    (links / "a").mkdir(parents=True)
    if kind == "file":
        (links / "a/b").write_text("mine")
    elif kind == "directory":
        (links / "a/b").mkdir()
    elif kind == "link":
        (links / "a/b").symlink_to(mine)
    else:
        (links / "a").rmdir()
        (links / "a").symlink_to(mine)
    before = sorted(links.rglob("*"))
    with pytest.raises(ConfigError, match="something other than a link to a run"):
        link_runs(root, links)
    assert sorted(links.rglob("*")) == before and not list(mine.iterdir())


@pytest.fixture
def hangup():
    """hangup(handler): SIGHUP is handled so until the test ends, whatever these tests were started with (`nohup`)."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_tensorboard_and_removes_the_links(tmp_path, monkeypatch, capsys, number, hangup):
    hangup(signal.SIG_DFL)
    started, (root, temporary) = [], (tmp_path / "output", tmp_path / "temporary")
    runs(root, "run")
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def start(command, **options):
        links = Path(command[command.index("--logdir") + 1])
        assert set(linked(links)) == {"run"} and links.parent == temporary
        started.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(100)"], **options))
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        return started[0]

    replaced = types.SimpleNamespace(Popen=start, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr("dassl_vr.cli.tensorboard.subprocess", replaced)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert main([str(root)]) == 130
    assert started[0].poll() == -signal.SIGTERM and not list(temporary.iterdir())
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert capsys.readouterr().err == "interrupted\n"


def test_nohup_stays_nohup(hangup):
    hangup(signal.SIG_IGN)
    with interrupt_on_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
