"""Search for settings with Ray Tune: random trials of a space, judged by the validation split, the bad ones ended early."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from ..config import read_yaml
from ..config.validate import lookup
from ..utils.errors import ConfigError
from ..utils.files import write_json
from .cells import RUN_KEYS
from .on_ray import OnRay
from .plan import Run
from .training import run as train

SEARCH_FILE = "search.json"
METRIC = "val_accuracy"
KINDS = ("choice", "uniform", "loguniform")
# Nothing but the validation split is looked at: after every epoch while it trains, and at its end
VALIDATION_ONLY = [
    *("TEST.SPLIT", "val", "TEST.FINAL_MODEL", "best_val", "TEST.VAL_FREQ", "1", "TEST.NO_TEST", "False"),
    *("TEST.TEST_CURVE", "False", "TEST.TRAIN_GAP", "False", "TRAIN.END_FIGURES", "False"),  # the last shows test images
]
# Trials are compared epoch by epoch, so all have the same number of them
NOT_SEARCHED = {*RUN_KEYS, *VALIDATION_ONLY[::2], "OPTIM.MAX_EPOCH"}


def read_space(path: str | os.PathLike) -> dict:
    """{KEY: (kind, numbers or values)} of a YAML file as in `sweep.py --help`.

    Raises:
        ConfigError: it is no such file.
    """
    space = {}
    for key, rule in read_yaml(path).items():
        kind, values = next(iter(rule.items())) if isinstance(rule, dict) and len(rule) == 1 else (None, None)
        if kind in ("uniform", "loguniform"):
            values = _range(values, positive=kind == "loguniform")
        if kind not in KINDS or not isinstance(values, list) or not values:
            raise ConfigError(
                f"{path}: {key}: {rule}; expected one of choice: [...], uniform: [low, high], loguniform: [low, high]"
            )
        space[key] = kind, values
    if not space:
        raise ConfigError(f"{path}: names no key; expected KEY: {{choice: [...]}} and the like")
    return space


def _range(values, positive):
    """[low, high] as numbers, also of texts, since `1e-3` is one to YAML; None if it is no such thing."""
    try:
        low, high = (float("nan" if isinstance(value, bool) else value) for value in values)
    except (TypeError, ValueError):
        return None
    return [low, high] if low < high < math.inf and low > (0 if positive else -math.inf) else None


def check_space(runs: Sequence[Run], space: dict) -> None:
    """Raises `ConfigError` for a key or value of `space` that one of `runs` could not have, or epochs that follow from the data."""
    if not all(run.cfg.OPTIM.MAX_EPOCH for run in runs):
        raise ConfigError("--search: trials are compared epoch by epoch; set OPTIM.MAX_EPOCH to a number of them, not 0")
    for key, (kind, values) in space.items():
        if key in NOT_SEARCHED:
            raise ConfigError(f"--search: {key} is the same for all trials; leave it out of the space")
        for run in runs:
            for value in values:
                cfg = replace(run, settings=[*run.settings, key, str(value)]).cfg
                if kind != "choice" and not isinstance(lookup(cfg, key), float):
                    raise ConfigError(f"--search: {key} takes no fractions; write choice: [...] in place of {kind}")


def search_place(run: Run) -> Path:
    """Directory for the search that begins at `run`."""
    return run.output_dir.with_name(f"{run.output_dir.name}-search")


def search(on_ray: OnRay, runs: Sequence[Run], space: dict, trials: int) -> None:
    """For each of `runs` try settings of `space`; print the trials, best first, and leave them in `search.json` beside the run.

    Where trials fail the run gets a `problem`. An interrupted search starts over.

    Args:
        on_ray: an `OnRay`.
        runs: list of `Run`; a trial is the run with further settings, in a directory of its own under `<run>-search`.
        trials: how many, for each run.
    """
    with on_ray.cluster() as resources:
        for run in runs:
            place = search_place(run)
            rows, reasons = _try(run, place, space, trials, resources)
            if len(rows) < trials:
                run.problem = f"{trials - len(rows)} of {trials} trials failed: {'; '.join(reasons)}; see {place}"
            if not rows:
                continue
            write_json({"metric": METRIC, "trials": rows}, place / SEARCH_FILE)
            print(f"\n{run.output_dir}: {len(rows)} of {trials} trials succeeded; by their best accuracy on the validation split")
            print(tabulate([[row[METRIC], row["epochs"], *row["settings"].values()] for row in rows], [METRIC, "epochs", *space]))
            best = " ".join(f"{key} {value}" for key, value in rows[0]["settings"].items())
            print(f"the best: -- {best}")


def _try(run, place, space, trials, resources):
    """([{settings, METRIC, epochs}] of the trials that succeeded, best first; why others did not)."""
    from ray import tune

    kinds = {
        "choice": lambda values: tune.choice(values),
        "uniform": lambda v: tune.uniform(*v),
        "loguniform": lambda v: tune.loguniform(*v),
    }
    epochs = run.cfg.OPTIM.MAX_EPOCH
    place.mkdir(parents=True, exist_ok=True)
    here, parts = os.getcwd(), run.parts()

    def trial(settings):
        _trial(here, parts, place / "trials" / tune.get_context().get_trial_id(), settings, tune.report)

    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": resources["num_cpus"], "gpu": resources["num_gpus"]}),
        param_space={key: kinds[kind](values) for key, (kind, values) in space.items()},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=trials,
            scheduler=tune.schedulers.ASHAScheduler(max_t=epochs, grace_period=min(epochs, max(1, epochs // 8))),
            search_alg=tune.search.basic_variant.BasicVariantGenerator(random_state=run.cfg.SEED),
        ),
        run_config=tune.RunConfig(name="tune", storage_path=str(place.resolve()), verbose=0),
    )
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # it would make of Ctrl-C the end of a search that came out well
    grid = tuner.fit()
    results = [result for result in grid if result.metrics and METRIC in result.metrics]
    reasons = dict.fromkeys(str(error).strip().split("\n")[-1][:200] for error in grid.errors)
    rows = [
        {
            "settings": result.config,
            METRIC: float(result.metrics_dataframe[METRIC].max()),
            "epochs": int(result.metrics["training_iteration"]),
        }
        for result in results
    ]
    return sorted(rows, key=lambda row: -row[METRIC]), list(reasons) or ["none came to the end of an epoch"]


def _trial(directory, parts, output_dir, settings, report):
    """One trial in a Ray worker: trains in this process, so that its epochs are reported as they end."""
    os.chdir(directory)
    words = [str(word) for pair in settings.items() for word in pair]
    run = Run(**{**parts, "output_dir": output_dir, "settings": [*parts["settings"], *VALIDATION_ONLY, *words]})
    train(run.cfg, watch=lambda trainer: report({METRIC: trainer.results["val"]["accuracy"]}))
