"""Fixtures shared by all tests."""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the tests compare bits, on the CPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: more threads only get in each other's way
os.environ.setdefault("RAY_worker_niceness", "0")  # else what else is at work comes first

import pytest
import torch.distributed as dist

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
sys.path.append(str(TESTS / "helpers"))

# The fast tier, `bash scripts/test.sh fast`: units of every package, and one tiny run of SMM from training to a finished directory
FAST = (
    *("test_architecture.py", "config/test_merge.py", "evaluation", "optim", "reprogramming", "utils"),
    *("backbones/test_fold.py", "backbones/tiny/test_tiny_vit.py", "prompting/test_tokens.py", "runs/test_cells.py"),
    *(
        "data/test_archive.py",
        "data/test_augment_rng.py",
        "data/test_checks.py",
        "data/test_readers.py",
        "data/test_safe_pickle.py",
    ),
    *("data/test_samplers.py", "data/test_split.py", "data/test_walk.py", "data/test_wrapper.py", "datasets/test_digits.py"),
    *("family/test_datasets.py", "family/test_distance.py", "family/test_utils.py", "engine/test_build.py"),
    *("engine/test_events.py", "engine/test_resume_file.py", "methods/test_tiny_run.py", "report/test_canvas.py"),
)


def is_fast(path):
    path = path.relative_to(TESTS)
    return any(str(part) in FAST for part in (path, *path.parents))


def pytest_ignore_collect(collection_path, config):
    """Of other files not even the imports take time in the fast tier."""
    asked = config.option.markexpr == "fast" and collection_path.suffix == ".py"
    return True if asked and not is_fast(collection_path) else None


def pytest_collection_modifyitems(items):
    for item in items:
        if is_fast(item.path) and not item.get_closest_marker("slow"):
            item.add_marker("fast")


# A run of seconds with real weights on real images: 30 digits at a side of 32
TINY = [
    "INPUT.SIZE",
    "(32, 32)",
    "DATASET.NUM_SHOTS",
    "3",
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    "8",
    "OPTIM.MAX_EPOCH",
    "3",
    "TRAIN.END_FIGURES",
    "False",
]


GRACE = 60  # seconds in which processes notice that another one was killed


@pytest.fixture
def repository():
    return REPOSITORY


@pytest.fixture(autouse=True)
def quick_starts(monkeypatch):
    """The runs of a table start in a moment; in a process of their own all the same."""
    import served

    from dassl_vr.runs import executors

    monkeypatch.setattr(executors, "subprocess", served)


@pytest.fixture
def run_python(tmp_path):
    """run_python(*arguments, cwd=tmp_path, env=None): what became of `python *arguments`, a process that starts in a moment."""
    import served

    def run(*arguments, cwd=tmp_path, env=None, timeout=None):
        return served.run([sys.executable, *arguments], cwd=cwd, env=env, timeout=timeout, capture_output=True)

    return run


@pytest.fixture
def tiny_command():
    """Arguments of `train.py` for a tiny run: tiny_command(output_dir, *more, trainer="SMM", backbone="tiny_vit", seed=1)."""

    def command(output_dir, *more, trainer="SMM", backbone="tiny_vit", seed=1):
        flags, opts = [], [*TINY]
        target = flags
        for word in map(str, more):
            if target is flags and not word.startswith("--") and (not flags or not flags[-1].startswith("--")):
                target = opts  # the first KEY after the flags and their values
            target.append(word)
        recipe = ["--trainer", trainer, "--config-file", str(REPOSITORY / f"configs/trainers/{trainer}/{backbone}.yaml")]
        data = ["--dataset-config-file", str(REPOSITORY / "configs/datasets/digits.yaml")]
        return [*recipe, *data, "--output-dir", str(output_dir), "--seed", str(seed), *flags, *opts]

    return command


@pytest.fixture
def trainer_of():
    """trainer_of(arguments): the trainer that `train.py` with these arguments would build."""
    from dassl_vr.cli.train import build_parser, setup_cfg
    from dassl_vr.engine import build_trainer
    from dassl_vr.plugins import load_plugins
    from dassl_vr.runs import settle
    from dassl_vr.utils.seeding import set_random_seed

    def build(arguments):
        load_plugins()
        cfg = setup_cfg(build_parser().parse_args(arguments))
        settle(cfg)
        set_random_seed(cfg.SEED)
        return build_trainer(cfg)

    return build


@pytest.fixture
def stopped_once_saved():
    """Inside of `with stopped_once_saved():` a run is interrupted as by Ctrl-C right after it has written its resume file."""
    from dassl_vr.engine import trainer as module

    @contextlib.contextmanager
    def context():
        save = module.save_resume_file

        def save_and_stop(*arguments):
            save(*arguments)
            raise KeyboardInterrupt

        module.save_resume_file = save_and_stop
        try:
            yield
        finally:
            module.save_resume_file = save

    return context


@pytest.fixture
def processes(tmp_path):
    """processes(number, function): call `function()` in processes that have joined as those of a torchrun do.

    They are forks, which cost no imports. Returns [(exit code, what the function returned, if it came to that)] by rank;
    the code is 0, that of a `SystemExit`, -N for signal N, or 1 after a traceback.
    """
    places = iter(range(100))

    def run(number, function):
        place = tmp_path / f"processes{next(places)}"
        place.mkdir()
        launcher, port = _fork_launcher()
        pids = [_fork(rank, number, port, function, place / str(rank)) for rank in range(number)]
        codes = _exit_codes(pids)
        os.kill(launcher, signal.SIGKILL)
        os.waitpid(launcher, 0)
        results = [place / str(rank) for rank in range(number)]
        return [(code, json.loads(file.read_text()) if file.exists() else None) for code, file in zip(codes, results)]

    return run


def _exit_codes(pids):
    """Of processes, in order. As torchrun does, those are killed that still wait for one that was killed outright.

    A process that dies before another has connected to it leaves that one waiting; mostly they notice, for which they have time.
    """
    codes, deadline = {}, None
    while len(codes) < len(pids):
        for pid in set(pids) - set(codes):
            if (ended := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(ended[1])
        now = time.monotonic()
        if deadline is None and -signal.SIGKILL in codes.values():
            deadline = now + GRACE
        elif deadline is not None and now > deadline:
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGKILL)
            deadline = None
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def _fork_launcher():
    """(id, port) of a process that keeps the store of a run, as torchrun does: so it outlives each of the processes.

    Not this process: the store has a thread, and what is forked beside a thread may hang.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        with open(read) as pipe:
            return pid, int(pipe.read())
    try:
        store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        os.write(write, str(store.port).encode())
        os.close(write)
        while True:
            signal.pause()
    finally:
        os._exit(1)


def _fork(rank, number, port, function, file):
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(number), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(number)}
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        file.write_text(json.dumps(function()))
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)  # not through pytest's own end
