"""`python sweep.py` on a real Ray of one machine: a grid that fails in part and is repaired; a search; what is refused."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from dassl_vr.cli import reproduce
from dassl_vr.cli.sweep import main
from dassl_vr.paper import PAPER_REGISTRY, PaperTable, Variant
from dassl_vr.runs.search import METRIC, SEARCH_FILE

pytest.importorskip("ray")

GRID = ["--trainers", "LinearProbe", "--backbones", "tiny_vit"]
TINY = ["--", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "2", "VERBOSE", "False", "DATALOADER.STORE", "off"]
TINY += ["INPUT.SIZE", "(32, 32)", "TRAIN.END_FIGURES", "False", "USE_CUDA", "False"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch, repository, tmp_path):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address of a Ray cluster of one machine that says it had a GPU; runs use the CPU."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")  # where Ray has made a token before, it would ask for it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
    command += ["--num-cpus", "2", "--num-gpus", "1", "--include-dashboard", "false"]
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}  # it forbids to say so
    log = tmp_path_factory.mktemp("ray") / "log"
    with open(log, "w") as file:
        head = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        while "--block" not in log.read_text() and head.poll() is None:
            time.sleep(0.1)
        assert head.poll() is None, log.read_text()
        yield re.search("--address='(.*?)'", log.read_text())[1]
    finally:
        head.terminate()  # takes its processes with it
        head.wait()
        patch.undo()


@pytest.fixture
def there(tmp_path, monkeypatch):
    """`data`, a directory of two classes of images, with `test` images that cannot be read; and where the runs on them go."""
    place = tmp_path / "sweep"
    for split, number in (("train", 4), ("val", 2), ("test", 2)):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            folder = place / "data" / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                if split == "test":
                    (folder / f"{index}.png").write_text("no image")
                else:
                    Image.new("RGB", (32, 32), tuple(value + 20 * index for value in colour)).save(folder / f"{index}.png")
    monkeypatch.setenv("OUTPUT", str(place / "out"))
    monkeypatch.setenv("DATA", str(place / "data"))
    return place


def in_a_fork(words, entry=main):
    """Exit code of `entry(words)`, in a process of its own: no process can be forked well from one in which Ray has been."""
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(entry(words)))
    process.start()
    process.join()
    return process.exitcode


def results_of(directory):
    return json.loads((directory / "results.json").read_text())


PLUGIN = """
from dassl_vr.evaluation import EVALUATOR_REGISTRY, Classification

@EVALUATOR_REGISTRY.register(name="Plugged")
class Plugged(Classification):
    def evaluate(self):
        print("evaluated by the plug-in")
        return super().evaluate()
"""


@pytest.mark.slow
def test_a_run_that_fails_is_tried_again_the_others_end_and_a_restart_does_the_rest(there, cluster, capfd):
    """All of it with an evaluator from a plug-in, which the processes on Ray load too."""
    (there / "plugged.py").write_text(PLUGIN)
    plugin, tiny = ["--plugin", os.path.relpath(there / "plugged.py")], [*TINY, "TEST.EVALUATOR", "Plugged"]
    options = ["--datasets", "folder", "digits", "--seeds", "1", "--address", cluster, "--gpus-per-run", "0.5", *plugin]
    assert in_a_fork([*GRID, *options, "--format", "csv", *tiny]) == 1
    out, err = capfd.readouterr()
    failed, good = (there / f"out/{name}/LinearProbe/tiny_vit/default/seed1" for name in ("data", "digits"))
    assert out.count(f"again: {failed}: ") == 1 and out.count("again: ") == 1, "one further attempt, at that run only"
    assert f"failed    {failed}: " in out and f"finished  {good}: " in out and "\n1 failed, 1 finished\n" in out
    assert err.count("\n") == 3 and f"1 of 2 runs failed:\n  {failed}: " in err and "test/" in err, "named, with the reason"
    assert len(re.findall("^error: ", (failed / "console.txt").read_text(), re.M)) == 2
    assert len(out[out.index("\n\n") + 2 :].splitlines()) == 2 and results_of(good)["seed"] == 1, "a table of one row"
    assert "evaluated by the plug-in" in (good / "console.txt").read_text()

    # Started again with the images mended, it trains what is missing
    for path in (there / "data/test").rglob("*.png"):
        path.write_bytes((there / "data/val" / path.parent.name / path.name).read_bytes())
    options = ["--datasets", "folder", "digits", "--seeds", "1", "--format", "csv", *plugin]
    assert in_a_fork([*GRID, *options, "--dry-run", *tiny]) == 0
    assert capfd.readouterr().out == f"resume    {failed}\nfinished  {good}\n1 resume, 1 finished\n"
    before = (good / "results.json").stat().st_mtime_ns
    assert in_a_fork([*GRID, *options, "--address", cluster, *tiny]) == 0
    out, err = capfd.readouterr()
    assert not err and f"finished  {good}\n" in out and f"works     {failed}\n" in out and out.count(f"works     {good}") == 0
    assert "\n2 finished\n" in out and len(out[out.index("\n\n") + 2 :].splitlines()) == 3, "a table of two rows"
    assert (good / "results.json").stat().st_mtime_ns == before
    assert "Resumed from" in (failed / "console.txt").read_text() and results_of(failed)["accuracy"] == 100


def test_a_search_selects_on_the_validation_split_alone(there, cluster, tmp_path, capfd):
    """The test images of `folder` cannot be read: who touched them would fail."""
    space = tmp_path / "space.yaml"
    space.write_text("OPTIM.LR: {loguniform: [1e-4, 1e-1]}\nDATALOADER.TRAIN_X.BATCH_SIZE: {choice: [2, 4]}\n")
    options = ["--datasets", "folder", "digits", "--seeds", "1", "--search", str(space), "--trials", "2"]
    assert main([*GRID, *options, "--dry-run", *TINY]) == 0
    places = [there / f"out/{name}/LinearProbe/tiny_vit/default/seed1-search" for name in ("data", "digits")]
    assert capfd.readouterr().out == "".join(f"search    {path}, 2 trials\n" for path in places)
    assert not any(path.exists() for path in places)

    assert in_a_fork([*GRID, *options, "--address", cluster, "--gpus-per-run", "0.5", *TINY]) == 0
    out, _ = capfd.readouterr()
    found = [json.loads((path / SEARCH_FILE).read_text()) for path in places]
    for path, search in zip(places, found):
        assert search["metric"] == METRIC and len(search["trials"]) == 2
        accuracies = [row[METRIC] for row in search["trials"]]
        assert accuracies == sorted(accuracies, reverse=True)
        runs = list((path / "trials").iterdir())
        assert len(runs) == 2
        for run in runs:
            log = (run / "log.txt").read_text()
            assert "Evaluate on the *val* set" in log and "*test*" not in log
        best = search["trials"][0]["settings"]
        assert list(best) == ["OPTIM.LR", "DATALOADER.TRAIN_X.BATCH_SIZE"]
        assert f"the best: -- {' '.join(f'{key} {value}' for key, value in best.items())}\n" in out
    assert out.count("2 of 2 trials succeeded") == 2
    settings = [sorted(str(row["settings"]) for row in search["trials"]) for search in found]
    assert settings[0] == settings[1] and len(set(settings[0])) == 2, "equal seeds try equal settings"


def test_failed_trials_are_named_and_the_next_search_continues(there, cluster, tmp_path, capfd):
    """Images for validation cannot be read either in `folder`, so that all of its trials fail."""
    for path in (there / "data/val").rglob("*.png"):
        path.write_text("no image")
    space = tmp_path / "space.yaml"
    space.write_text("OPTIM.LR: {choice: [0.1]}\n")
    options = ["--datasets", "folder", "digits", "--seeds", "1", "--search", str(space), "--trials", "1", "--address", cluster]
    assert in_a_fork([*GRID, *options, *TINY]) == 1
    failed, good = (there / f"out/{name}/LinearProbe/tiny_vit/default/seed1" for name in ("data", "digits"))
    out, err = capfd.readouterr()
    assert f"1 of 2 runs failed:\n  {failed}: 1 of 1 trials failed: " in err and "val/" in err.split("trials failed")[1]
    assert f"{good}: 1 of 1 trials succeeded" in out and (good.with_name("seed1-search") / SEARCH_FILE).is_file()


def test_more_than_any_machine_has(cluster, tmp_path, capfd):
    command = [*GRID, "--datasets", "digits", "--address", cluster, "--cpus-per-run", "3", *TINY]
    assert in_a_fork(command) == 2
    err = capfd.readouterr().err
    assert (
        "the 3 cores and 1 GPUs of a run (there are: 2 cores, 1 GPUs)" in err
        and err.count("\n") == 1
        and not (tmp_path / "out").exists()
    )


def trainings(directory):
    """Ids of the processes that train in `directory`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"dassl_vr.cli.train" in words and str(directory).encode() in words:
                found.append(int(path.parent.name))
    return found


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture
def probe_table():
    """`probe`, a table with LinearProbe alone."""

    @PAPER_REGISTRY.register(name="probe")
    class Probe(PaperTable):
        def variants(self):
            return [Variant("head", "LinearProbe")]

    yield
    PAPER_REGISTRY.remove("probe")


@pytest.mark.slow
def test_stopped_it_leaves_no_process_and_reproduce_continues(cluster, probe_table, tmp_path, capfd):
    """SIGTERM comes over `sweep.py`; `reproduce --sweep`, on a Ray of its own, continues the run that was saved."""
    long = [*TINY, "OPTIM.MAX_EPOCH", "40"]
    command = [sys.executable, "sweep.py", *GRID, "--datasets", "digits", "--seeds", "1", "--address", cluster]
    command += ["--retries", "0", *long]
    directory = tmp_path / "out/digits/LinearProbe/tiny_vit/default/seed1"
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: (directory / "resume.pt").exists())
    os.kill(*trainings(directory), signal.SIGTERM)  # pre-empted, which is no failure: it continues, without any retries
    wait_until(lambda: "Resumed from" in (directory / "console.txt").read_text())
    (training,) = trainings(directory)
    os.kill(training, signal.SIGSTOP)  # it is not to be finished before the signal comes
    sweep.send_signal(signal.SIGTERM)
    wait_until(
        lambda: int(re.search("ShdPnd:\t(.*)", Path(f"/proc/{training}/status").read_text())[1], 16) >> signal.SIGTERM - 1 & 1
    )
    os.kill(training, signal.SIGCONT)
    printed, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130 and printed.splitlines()[-1].startswith("interrupted; to continue: ")
    assert (
        not trainings(directory)
        and not (directory / "results.json").exists()
        and "--resume" in (directory / "console.txt").read_text()
    )

    words = ["probe", "--backbone", "tiny_vit", "--datasets", "digits", "--seeds", "1", "--sweep", *long]
    assert in_a_fork(words, reproduce.main) == 0
    out, err = capfd.readouterr()
    assert not err and f"finished  {directory}: " in out and "head" in out
    assert (directory / "console.txt").read_text().count("Resumed from") == 2 and len(results_of(directory)["history"]) == 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainers", "SMMM"], "configs/trainers/SMMM/tiny_vit.yaml: no such file"),
        (["--backbones", "rn51"], "configs/trainers/LinearProbe/rn51.yaml: no such file"),
        (["--datasets", "digitz"], "did you mean 'digits'"),
        (["--seeds", "0", "-1"], "--seeds -1: expected 0 or more"),
        (["--seeds", "one"], "invalid int value: 'one'"),
        (["--format", "html"], "invalid choice: 'html'"),
        (["--retries", "-1"], "--retries -1: expected 0 or more"),
        (["--cpus-per-run", "0"], "expected a whole number above 0, got '0'"),
        (["--gpus-per-run", "-0.5"], "--gpus-per-run -0.5: expected 0 to 1"),
        (["--gpus-per-run", "2"], "--gpus-per-run 2: expected 0 to 1"),
        (["--address", "127.0.0.1:1"], "no Ray cluster 127.0.0.1:1"),
        (["--search", "space.txt"], "space.txt: only .yaml and .yml files are read"),
        (["--trials", "0"], "expected a whole number above 0, got '0'"),
        (["--", "OPTIM.MAX", "3"], "OPTIM.MAX_EPOCH"),
        (["--", "SEED", "3"], "sets SEED itself"),
    ],
)
def test_mistakes_end_in_one_line_before_the_first_run(capfd, tmp_path, arguments, words):
    assert main([*GRID, "--datasets", "digits", *arguments]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_address_of_a_cluster_that_is_no_more(capfd, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("dassl_vr.runs.on_ray.RAY_ADDRESS_FILE", tmp_path / "address")
    (tmp_path / "address").write_text("127.0.0.1:1\n")
    assert main([*GRID, "--datasets", "digits", "--address", "auto"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: no Ray cluster auto: ") and "ray start --head" in error and error.count("\n") == 1


def test_method_of_a_trainer_is_not_for_the_end_of_the_line(capfd):
    assert main(["--trainers", "VR-pad", "--datasets", "digits", "--backbones", "lite0", "--", "TRAINER.VR.METHOD", "full"]) == 2
    assert "sets TRAINER.VR.METHOD itself" in capfd.readouterr().err


def test_a_dry_run_says_what_would_be_done(capfd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # it does not need Ray
    grid = ["--trainers", "SMM", "VR-pad", "--datasets", "digits", "--backbones", "lite0", "--seeds", "0", "0", "2"]
    assert main([*grid, "--tag", "mine", "--dry-run"]) == 0
    runs = [f"train     {tmp_path}/out/digits/{name}/lite0/mine/seed{seed}" for name in ("SMM", "VR-pad") for seed in (0, 2)]
    assert capfd.readouterr().out.splitlines() == [*runs, "4 train"] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--address", "auto"], "--address applies to runs on Ray; add --sweep"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run applies to runs on Ray; add --sweep"),
        (["--sweep", "--jobs", "2"], "--jobs 2: Ray runs as many in parallel as resources allow"),
    ],
)
def test_options_that_would_do_nothing(capfd, tmp_path, options, words):
    assert reproduce.main(["methods", "--backbone", "lite0", "--datasets", "digits", *options]) == 2
    error = capfd.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_without_ray(capfd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # makes its import fail
    for end in (
        lambda: main([*GRID, "--datasets", "digits"]),
        lambda: reproduce.main(["methods", "--backbone", "lite0", "--sweep"]),
    ):
        assert end() == 2
        assert capfd.readouterr().err == "error: this needs Ray; install it with: pip install 'dassl_vr[sweep]'\n"
    assert not (tmp_path / "out").exists()
