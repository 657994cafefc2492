"""Search for settings with Ray Tune: random trials of a space, judged by the validation split, the bad ones ended early."""

import os
from pathlib import Path

from tabulate import tabulate

from ..config import read_yaml
from ..utils.errors import ConfigError
from ..utils.files import write_json
from .train import build_parser, setup_cfg, train

SEARCH_FILE = "search.json"
METRIC = "val_accuracy"
KINDS = ("choice", "uniform", "loguniform")
# Nothing but the validation split is looked at: not while it trains, not at its end
VALIDATION_ONLY = ["TEST.SPLIT", "val", "TEST.FINAL_MODEL", "best_val", "TEST.TRAIN_GAP", "False"]


def read_space(path):
    """{KEY: (kind, numbers or values)} of a YAML file as in `sweep.py --help`.

    Raises:
        ConfigError: it is no such file.
    """
    space = {}
    for key, rule in read_yaml(path).items():
        kind, values = next(iter(rule.items())) if isinstance(rule, dict) and len(rule) == 1 else (None, None)
        good = kind in KINDS and isinstance(values, list) and values
        if good and kind != "choice":
            good = len(values) == 2 and all(isinstance(v, (int, float)) for v in values) and values[0] < values[1]
            good = good and (kind != "loguniform" or values[0] > 0)
        if not good:
            raise ConfigError(
                f"{path}: {key}: {rule}; expected one of choice: [...], uniform: [low, high], loguniform: [low, high]"
            )
        space[key] = kind, values
    if not space:
        raise ConfigError(f"{path}: names no key; expected KEY: {{choice: [...]}} and the like")
    return space


def search(on_ray, runs, space, trials):
    """For each of `runs` try settings of `space`; print the trials, best first, and leave them in `search.json` beside the run.

    Args:
        on_ray: an `OnRay`.
        runs: list of `Run`; a trial is the run with further settings, in a directory of its own under `<run>-search`.
        trials: how many, for each run.
    """
    for run in runs:
        first = [str(word) for key, (_, values) in space.items() for word in (key, values[0])]
        setup_cfg(build_parser().parse_args([*run.argv, *first]))  # raises `ConfigError` for a key that is none
    with on_ray.cluster() as resources:
        for run in runs:
            place = run.output_dir.with_name(f"{run.output_dir.name}-search")
            rows = _try(run, place, space, trials, resources)
            write_json({"metric": METRIC, "trials": rows}, place / SEARCH_FILE)
            print(f"\n{run.output_dir}: {len(rows)} trials, by their best accuracy on the validation split")
            print(tabulate([[row[METRIC], row["epochs"], *row["settings"].values()] for row in rows], [METRIC, "epochs", *space]))
            best = " ".join(f"{key} {value}" for key, value in rows[0]["settings"].items())
            print(f"the best: -- {best}")


def _try(run, place, space, trials, resources):
    """[{settings, METRIC, epochs}] of the trials, best first."""
    from ray import tune

    kinds = {
        "choice": lambda values: tune.choice(values),
        "uniform": lambda v: tune.uniform(*v),
        "loguniform": lambda v: tune.loguniform(*v),
    }
    epochs = run.cfg.OPTIM.MAX_EPOCH
    place.mkdir(parents=True, exist_ok=True)
    here = os.getcwd()

    def trial(settings):
        _trial(here, run.argv, place / "trials" / tune.get_context().get_trial_id(), settings, tune.report)

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
    results = [result for result in tuner.fit() if result.metrics and METRIC in result.metrics]
    if not results:
        raise ConfigError(f"no trial of {run.output_dir} succeeded; see the error files under {place / 'tune'}")
    rows = [
        {
            "settings": result.config,
            METRIC: float(result.metrics_dataframe[METRIC].max()),
            "epochs": int(result.metrics["training_iteration"]),
        }
        for result in results
    ]
    return sorted(rows, key=lambda row: -row[METRIC])


def _trial(directory, argv, output_dir, settings, report):
    """One trial in a Ray worker: trains in this process, so that its epochs are told as they end."""
    from ..plugins import load_plugins

    os.chdir(directory)
    load_plugins()
    words = [str(word) for pair in settings.items() for word in pair]
    args = build_parser().parse_args([*argv, *VALIDATION_ONLY, *words])
    args.output_dir = args.resume = str(Path(output_dir))
    train(args, setup_cfg(args), watch=lambda trainer: report({METRIC: trainer.results["val"]["accuracy"]}))
