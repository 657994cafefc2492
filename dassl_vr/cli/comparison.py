"""The runs that a comparison of methods needs, its rule for the number of epochs, and its results."""

import argparse
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..config.recipes import recipe_path, recipes_of
from ..engine import TRAINER_REGISTRY
from ..engine.results import read_results
from ..names import BASE_TO_NEW, CLIP_16SHOT, CROSS_DATASET, FEW_SHOT, PROTOCOLS
from ..paper.clip_16shot import NOTE, RECIPE
from ..report.canvas import save
from ..report.comparison import Compared, by_size, protocol_table, published_beside, shots_figure, summarize
from ..report.runs import warnings_about
from ..report.tables import render, results_table
from ..runs.cells import Cell, check_settings, data_arguments, data_called, join_tags, recipe_cfg, shots_tag
from ..runs.plan import Run
from ..utils.arguments import command_line
from ..utils.errors import ConfigError
from ..utils.files import write_json
from ..utils.text import say
from .fitting import cells_that_fit
from .tables import data_and_output

REFERENCE = "SMM"  # whose recipe sets the number of epochs


@dataclass(frozen=True)
class EpochsRule:
    """The number of epochs for every trainer.

    Attributes:
        number: of epochs; None = the recipe's own.
        text: the rule in words.
    """

    number: int | None
    text: str

    @classmethod
    def of(cls, args: argparse.Namespace) -> "EpochsRule":
        if args.epochs == "recipe":
            return cls(None, "each recipe's own number of epochs")
        if args.epochs:
            return cls(args.epochs, f"{_epochs(args.epochs)} for every trainer (--epochs)")
        path = recipe_path(REFERENCE, args.backbone)
        if args.backbone not in recipes_of(REFERENCE):
            raise ConfigError(f"no recipe {path} to take the number of epochs from; give --epochs N or --epochs recipe")
        number = recipe_cfg(Cell(REFERENCE, "", args.datasets[0], args.backbone)).OPTIM.MAX_EPOCH
        return cls(number, f"{_epochs(number)} for every trainer (as in {path})")

    def settings(self, cell: Cell) -> tuple:
        """KEY, VALUE, ... that set this number in the recipe of `cell`; warm-up and steps keep their share of the run."""
        if self.number is None:
            return ()
        optim = recipe_cfg(cell).OPTIM
        if self.number == optim.MAX_EPOCH or not getattr(TRAINER_REGISTRY.get(cell.trainer), "learns", True):
            return ()
        settings = ["OPTIM.MAX_EPOCH", str(self.number)]
        if not optim.MAX_EPOCH:  # the recipe's number follows from the data
            return tuple(settings)
        share = self.number / optim.MAX_EPOCH
        if optim.WARMUP_EPOCH >= 1:
            settings += ["OPTIM.WARMUP_EPOCH", str(round(optim.WARMUP_EPOCH * share))]
        if any(step >= 1 for step in optim.STEPSIZE):
            steps = tuple(max(1, round(step * share)) if step >= 1 else step for step in optim.STEPSIZE)
            settings += ["OPTIM.STEPSIZE", str(steps)]
        return tuple(settings)


def _epochs(number):
    return f"{number} epoch{'s' if number > 1 else ''}"


# --------------------------------------------------------------------------------------------------------- the runs
class Comparison:
    """All runs of a comparison and their results.

    Attributes:
        columns: what the runs of a method differ in: numbers of shots, base and new, or data sets. The first is trained on; with
            `clip-16shot` all are.
        words: {what the data are called in a column: what they were called on the command line}.
        runs: cell -> column -> seed -> `Run`; those that test on other classes come with `add_tests`.
        unfit: names of the methods that the protocol does not apply to.
    """

    def __init__(self, args: argparse.Namespace, settings: list[str]) -> None:
        self.args, self.settings, self.root = args, settings, data_and_output()[0]
        self.names = cells_that_fit(args, RECIPE if args.protocol == CLIP_16SHOT else "")
        self.rule = EpochsRule.of(args)
        own = {key for cell in self.names for key in cell.options[::2]}
        check_settings(settings, own | {"OPTIM.MAX_EPOCH", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES"})
        self.tests_elsewhere = args.protocol in (BASE_TO_NEW, CROSS_DATASET)
        self.words = self._words()
        self.data = next(iter(self.words)) if len(self.words) == 1 + len(args.targets) else args.dataset
        self.columns, self.titles = self._columns()
        self.runs, self.unfit = {}, []
        for cell, name in self.names.items():
            trained = self.columns[:1] if self.tests_elsewhere else self.columns
            runs = {column: self._training(cell, column) for column in trained}
            if self.tests_elsewhere and not _takes_new_classes(cell, next(iter(runs[trained[0]].values()))):
                self.unfit.append(name)
            else:
                self.runs[cell] = runs
        if not self.runs:
            raise ConfigError(
                f"--protocol {args.protocol} tests on classes that were not trained on, but the label mappings and heads on"
                f" {args.backbone} belong to the training classes ({', '.join(self.unfit)}); choose a CLIP backbone"
            )
        for target in args.targets:  # unknown names end the command here
            self._run(replace(next(iter(self.runs)), dataset=target), 0, "default")

    def _words(self):
        words = {}
        for word in (*self.args.datasets, *self.args.targets):
            name = data_called(word, self.root, self.settings if word in self.args.datasets else ())
            if word != words.setdefault(name, word):
                raise ConfigError(f"{words[name]} and {word} are both called {name}; rename one of the folders")
        return words

    def _columns(self):
        args = self.args
        if args.protocol == BASE_TO_NEW:
            return ["base", "new"], ["base %", "new %"]
        if args.protocol in (CROSS_DATASET, CLIP_16SHOT):
            return list(self.words), [f"{column} %" for column in self.words]
        return args.shots, [f"{number} shot{'s' if number > 1 else ''}" for number in args.shots]

    def _training(self, cell, column):
        """{seed: Run} that trains for a column."""
        settings = [*self.rule.settings(cell)]
        epochs = f"ep{self.rule.number}" if settings else ""
        shots, half = column if self.args.protocol == FEW_SHOT else self.args.shots[0], ""
        if shots:
            settings += ["DATASET.NUM_SHOTS", str(shots)]
        if self.args.protocol == CLIP_16SHOT:
            cell = replace(cell, dataset=self.words[column])
        if self.args.protocol == BASE_TO_NEW:
            half = column
            settings += ["DATASET.SUBSAMPLE_CLASSES", half]
        tag = join_tags(self.args.tag, shots_tag(shots), epochs, half)
        return {seed: self._run(cell, seed, tag, settings) for seed in self.args.seeds}

    def _run(self, cell, seed, tag, settings=()):
        name = self.names.get(replace(cell, dataset=self.args.datasets[0]), cell.name)
        cell = replace(cell, settings=tuple(settings))
        run = cell.run(seed, self.args.output, tag, self.root, self.settings, self.args.plugin)
        run.name = f"{name}{f' on {cell.dataset}' if len(self.args.datasets) > 1 else ''}, seed {seed}"
        return run

    def add_tests(self) -> list[Run]:
        """The runs that test the trained models on other classes."""
        tests = []
        for columns in self.runs.values():
            trained = columns[self.columns[0]]
            for column in self.columns[1:] if self.tests_elsewhere else ():
                columns[column] = {seed: self._test(column, run) for seed, run in trained.items() if not run.problem}
                tests += columns[column].values()
        return tests

    def _test(self, column, trained):
        directory = self._test_directory(column, trained.output_dir)
        flags, keys = {}, ["DATASET.SUBSAMPLE_CLASSES", column]
        if self.args.protocol == CROSS_DATASET:
            flags, keys = data_arguments(self.words[column])
        flags, settings = {**flags, "root": self.root}, ["DATASET.DOWNLOAD", "True", *keys]
        name = f"{trained.name}, tested on {column}"
        return Run(name, directory, flags, settings, self.args.plugin, model_dir=trained.output_dir)

    def _test_directory(self, column, trained):
        """Beside the run that trained: under a tag of its own, on another data set with that of this one in it."""
        seed, tag = trained.name, trained.parent.name
        if self.args.protocol == BASE_TO_NEW:
            return trained.parent.with_name(re.sub("base$", column, tag)) / seed
        method = trained.parent.parent.relative_to(Path(self.args.output, self.data))
        return Path(self.args.output, column, method, join_tags(tag, f"from-{self.data}"), seed)

    @property
    def all_runs(self) -> list[Run]:
        return [run for columns in self.runs.values() for runs in columns.values() for run in runs.values()]

    def announce(self) -> None:
        """Print the protocol, the rule and the methods."""
        args = self.args
        shots = ", ".join(str(number or "all") for number in args.shots)
        print(f"protocol: {args.protocol} ({PROTOCOLS[args.protocol]})")
        print(f"epochs:   {self.rule.text}")
        print(f"training images per class: {shots}; seeds: {', '.join(map(str, args.seeds))}")
        print(f"methods:  {', '.join(self.names[cell] for cell in self.runs)}")
        if self.unfit:
            print(f"not applicable, because their label mapping or head belongs to the training classes: {', '.join(self.unfit)}")
        print(flush=True)

    # -------------------------------------------------------------------------------------------------- the results
    def compared(self) -> list[Compared]:
        """A `Compared` for each method that has a finished run that trained, from small to large."""
        methods = []
        for cell, columns in self.runs.items():
            directories = {
                column: {seed: run.output_dir for seed, run in runs.items() if not run.problem} for column, runs in columns.items()
            }
            results = {column: {seed: read_results(path) for seed, path in runs.items()} for column, runs in directories.items()}
            if any(results.values()):
                methods.append(Compared(self.names[cell], results, directories))
        return by_size(methods)

    def report(self) -> None:
        """Print the table, and write it to a JSON file with everything that it is made of; with several shots, draw a curve too."""
        args, methods = self.args, self.compared()
        if not methods:
            return
        headers, rows, notes = self._table(methods)
        print(f"\n{self.data}, {args.backbone}; protocol: {args.protocol}; {self.rule.text}\n")
        print(render(headers, rows, args.format), flush=True)
        for line in notes:
            say(line)
        content = {
            "dataset": self.data,
            **({"datasets": list(self.words)} if len(args.datasets) > 1 else {}),
            "backbone": args.backbone,
            "protocol": args.protocol,
            "epochs_rule": self.rule.text,
            "shots": [number or "all" for number in args.shots],
            "seeds": args.seeds,
            "settings": self.settings,
            "command": command_line(),
            "not_applicable": self.unfit,
            "failed": [{"run": run.name, "problem": run.problem} for run in self.all_runs if run.problem],
            "methods": summarize(methods, args.protocol, self.columns),
            "table": [headers, *rows],
        }
        path = self._file(".json")
        write_json(content, path)
        say(f"\nwrote {path}")
        if args.protocol == FEW_SHOT and len(self.columns) > 1:
            self._draw_curve(methods)

    def _table(self, methods):
        """(headers, rows, what is to be said beside it)."""
        if len(self.columns) == 1:
            groups = [method.group(self.columns[0]) for method in methods]
            notes = [f"warning: {line}" for line in warnings_about(groups)]
            return *results_table(groups, self.args.seeds), notes + ([f"note: {NOTE}"] if self.args.protocol == CLIP_16SHOT else [])
        if self.args.protocol != CLIP_16SHOT:
            return *protocol_table(methods, self.args.protocol, self.columns, self.titles), []
        beside, notes = published_beside(methods, self.columns)
        table = protocol_table(methods, self.args.protocol, self.columns, self.titles, beside)
        return *table, [f"note: {line}" for line in (*notes, NOTE)]

    def _draw_curve(self, methods):
        path = self._file(".png")
        try:
            save(shots_figure(methods, self.columns, f"{self.data}, {self.args.backbone}"), path)
            say(f"wrote {path}")
        except ConfigError as error:  # the table is written; only the curve needs another package
            say(f"no curve: {error}")

    def _file(self, suffix):
        args = self.args
        shots = shots_tag(args.shots[0]) if len(args.shots) == 1 else ""
        epochs = {None: "", "recipe": "recipe-epochs"}.get(args.epochs, f"ep{args.epochs}")
        parts = ["comparison", args.backbone, args.protocol, join_tags(args.tag, shots, epochs)]
        return Path(args.output, self.data, "-".join(part for part in parts if part != "default") + suffix)


def _takes_new_classes(cell, run):
    question = getattr(TRAINER_REGISTRY.get(cell.trainer), "takes_new_classes", None)
    return question is not None and question(run.cfg)
