"""Write the generated parts of the documents: python docs/generate.py [--check]

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; the text around it is written by people. Some take arguments:
`<!-- generated: cards digits/lite0/full -->` is the table of the cards in that folder of results/, which
`python -m dassl_vr.report OUTPUT --cards results` writes, `accuracies` a short form of it, `side_by_side` that of several folders,
`differences` the differences in it.
The accuracies in the heads of recipes come from these cards, too, where there are some. With `--check` nothing is written, and the
exit code is 1 if a part is out of date.
"""

import argparse
import ast
import inspect
import math
import re
import sys
import textwrap
from pathlib import Path

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
sys.path.insert(0, str(REPOSITORY))  # this checkout, whatever is installed

from dassl_vr.cli.errors import end_script_in_one_line, one_line_errors

end_script_in_one_line()

from dassl_vr.backbones import ALIASES, backbone_spec
from dassl_vr.config import defaults, family, get_cfg_default, ranges, read_yaml
from dassl_vr.config.validate import leaves, lookup
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.engine.build import takes
from dassl_vr.plugins import load_plugins
from dassl_vr.report.cards import provenance, read_table
from dassl_vr.report.runs import mean_interval
from dassl_vr.report.tables import mean_std, results_table
from dassl_vr.reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY
from dassl_vr.reprogramming.mappings import CLASSES, EMBEDDING, FEATURES, LABELS
from dassl_vr.runs import build_cfg
from dassl_vr.utils.errors import DataError

PART = re.compile(r"(<!-- generated: (\w+)(?: ([^\n]+))? -->\n).*?(<!-- end -->)", re.DOTALL)
RESULTS = "results"  # the folder of cards
KINDS = ("cnn", "vit", "clip")


# ------------------------------------------------------------------------------------------------------------- methods
def trainers():
    """Every trainer: what it is, what it works on, what its METHOD may be."""
    rows = [("trainer", "what it is", "backbones", "`METHOD`", "`MAPPING` by default")]
    for name in sorted(TRAINER_REGISTRY.registered_names(), key=str.lower):
        trainer, choices = TRAINER_REGISTRY.get(name), TRAINER_REGISTRY.get(name).all_choices()
        node = get_cfg_default().TRAINER.get(name.upper(), {})
        methods = [_marked(method, node.get("METHOD")) for method in choices.get("METHOD", ())]
        mapping = f"`{node['MAPPING']}`" if "MAPPING" in choices else ""
        rows.append((f"`{name}`", _first_line(trainer), ", ".join(_kinds(trainer)), ", ".join(methods), mapping))
    return _table(rows)


def matrix():
    """Which trainer has a recipe for which backbone, and on which others it runs."""
    names = [name for name in ALIASES if "/" not in name]
    specs = {name: backbone_spec(name) for name in names}
    rows = [("", *(f"`{name}`" for name in names))]
    for name in sorted(TRAINER_REGISTRY.registered_names(), key=str.lower):
        trainer = TRAINER_REGISTRY.get(name)
        cells = []
        for backbone, spec in specs.items():
            recipe = (REPOSITORY / f"configs/trainers/{name}/{backbone}.yaml").is_file()
            cells.append("recipe" if recipe else "yes" if takes(trainer, spec) else "")
        rows.append((f"`{name}`", *cells))
    return _table(rows)


def mappings():
    """Every label mapping: what it is, when it is computed, on which backbones it works."""
    rows = [("`MAPPING`", "what it is", "computed", "trained", *KINDS)]
    for name in MAPPING_REGISTRY.registered_names():
        mapping = MAPPING_REGISTRY.get(name)
        when = {
            "never": "",
            "start": "once, before training",
            "epoch": "before every epoch",
            "ends": "before training and after it",
        }[mapping.refresh]
        size = 2 if mapping.reads == CLASSES else 4
        trained = "yes" if any(True for _ in mapping(size, 2).parameters()) else ""
        works = {
            LABELS: ("source classes", "source classes", "templates x classes"),
            FEATURES: ("features", "features", "features"),
            CLASSES: ("", "", "one sentence per class"),
            EMBEDDING: ("", "", "image features, beside sentences about the classes"),
        }[mapping.reads]
        rows.append((f"`{name}`", _first_line(mapping), when, trained, *works))
    return _table(rows)


def inputs():
    """Every f_in that a METHOD may name."""
    rows = [("`METHOD`", "what it is", "trainer", "needs in `INPUT.TRANSFORMS`")]
    for name in INPUT_REGISTRY.registered_names():
        f_in = INPUT_REGISTRY.get(name)
        rows.append((f"`{name}`", _first_line(f_in), f"`{f_in.trainer}`", ", ".join(f"`{t}`" for t in f_in.transforms)))
    return _table(rows)


def _kinds(trainer):
    kinds = getattr(trainer, "backbone_kinds", KINDS)
    return [kind for kind in KINDS if kind in kinds and not (kind == "cnn" and getattr(trainer, "needs_tokens", False))]


def _first_line(cls):
    text = " ".join(inspect.cleandoc(cls.__doc__).partition("\n\n")[0].split())
    return text[:-1] if text.endswith(".") else text


def _marked(value, default):
    return f"**`{value}`**" if value == default else f"`{value}`"


# ------------------------------------------------------------------------------------------------------- configuration
def keys():
    """Every key of the engine and of every trainer, with its comment, default and allowed values."""
    engine, everything = defaults._C, get_cfg_default()
    comments = _comments(inspect.getsource(defaults), lambda names: ".".join(names[1:]))
    allowed = {**ranges.CHOICES, **ranges.RANGES}
    of_engine = [key for key, _ in leaves(engine)]
    of_family = _comments(inspect.getsource(family), lambda names: ".".join(names[1:]))
    others = [key for key, _ in leaves(everything) if key not in of_engine and not key.startswith("TRAINER.")]
    of_data_sets = [key for key in others if key not in of_family]
    groups = {"General": [key for key in of_engine if "." not in key]}
    for key in of_engine:
        if "." in key:
            groups.setdefault(key.partition(".")[0], []).append(key)
    sections = [_keys_section(title, group, everything, comments, allowed) for title, group in groups.items()]
    if of_data_sets:
        sections.append(_keys_section("Of data sets", of_data_sets, everything, _extension_comments(), allowed))
    sections.append(_keys_section("Of the Dassl family", list(of_family), everything, of_family, allowed))
    for name in sorted(TRAINER_REGISTRY.registered_names(), key=str.lower):
        trainer, prefix = TRAINER_REGISTRY.get(name), f"TRAINER.{name.upper()}"
        group = [key for key, _ in leaves(everything) if key.startswith(f"{prefix}.")]
        own = {**trainer.all_choices(), **trainer.all_ranges()}
        if group:
            found = {f"{prefix}.{key}": values for key, values in own.items()}
            comments = {f"{prefix}.{key}": text for key, text in _extension_comments(trainer).items()}
            sections.append(_keys_section(f"Trainer {name}", group, everything, comments, found))
    return "\n\n".join(sections)


def _keys_section(title, group, cfg, comments, allowed):
    rows = [("key", "default", "allowed", "meaning")]
    for key in group:
        value = lookup(cfg, key)
        rows.append((f"`{key}`", f"`{value!r}`", _allowed(allowed.get(key), value), comments.get(key, "")))
    return f"## {title}\n\n{_table(rows)}"


def _allowed(rule, value):
    if isinstance(rule, ranges.Range):
        return _range(rule, value)
    if rule is not None:
        return ", ".join(f"`{entry}`" for entry in rule)
    if isinstance(value, bool):
        return "`True`, `False`"
    return {str: "text", int: "whole number", float: "number"}.get(type(value), "list")


def _range(rule, value):
    low = f"above {rule.above:,}" if rule.above is not None and rule.above >= rule.least else ""
    low = low or (f"{rule.least:,} or more" if rule.least > -ranges.LARGE else "")
    high = f"below {rule.below:,}" if rule.below is not None else (f"at most {rule.most:,}" if rule.most < ranges.LARGE else "")
    if low.endswith("or more") and high.startswith("at most"):
        low, high = f"{rule.least:,} to {rule.most:,}", ""
    bounds = ", ".join(filter(None, (low, high)))
    kind = "whole number" if isinstance(value, int) or rule.whole else "number"
    if isinstance(value, (list, tuple)):
        kind = f"{rule.entries} {kind}s" if rule.entries else f"list of {kind}s"
        return f"{kind}, each {bounds}" if bounds else kind
    return bounds if bounds else kind


def _comments(source, key_of):
    """{key: the comment above its assignment}; keys that follow one another without a line between share it."""
    found, comment, above = {}, [], ""
    for line in source.splitlines():
        line = line.strip()
        if line.startswith("#"):
            if above:
                comment, above = [], ""
            comment = [] if line.startswith("# ---") else [*comment, line.lstrip("# ")]
        elif match := re.match(r"((?:\w+\.)+[A-Z0-9_]+) = (?!.*CN\(\))", line):
            above = above or " ".join(comment)
            if above:
                found[key_of(match.group(1).split("."))] = above
        else:
            comment, above = [], ""
    return found


def _extension_comments(trainer=None):
    """{last part of a key: comment} from the `extend_cfg` of a trainer's file and of what that calls; {whole key: comment} of all
    others."""
    found = {}
    if trainer is not None:  # of any f_in and f_out, which may bring keys to the trainers that take them
        classes = [registry.get(name) for registry in (INPUT_REGISTRY, MAPPING_REGISTRY) for name in registry.registered_names()]
        for cls in classes:
            found |= _comments(inspect.getsource(cls.add_keys), lambda names: names[-1])
    for extend_cfg in defaults._EXTENSIONS:
        if trainer is not None and extend_cfg.__module__ != trainer.__module__:
            continue
        called = [
            node.func.id for node in ast.walk(_tree(extend_cfg)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        helpers = [extend_cfg.__globals__[name] for name in called if inspect.isfunction(extend_cfg.__globals__.get(name))]
        for function in (*helpers, extend_cfg):
            found |= _comments(inspect.getsource(function), lambda names: names[-1] if trainer else ".".join(names[1:]))
    return found


def _tree(function):
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


# -------------------------------------------------------------------------------------------------------- architecture
def imports():
    """The packages and which imports which; an import that others imply is left out."""
    edges = _package_imports()
    names = {}
    for package, other in sorted(edges):
        if not _implied(edges, package, other):
            names.setdefault(package, []).append(f"`{other}`")
    return _table([("package", "imports"), *((f"`{package}`", ", ".join(others)) for package, others in names.items())])


def _implied(edges, start, end):
    """Whether another arrow from `start` leads to `end`, by none of the packages that lead back to either."""
    middle = {b for a, b in edges if a == start and b != end and not _reaches(edges, b, start) and not _reaches(edges, end, b)}
    return any(_reaches(edges, node, end) for node in middle)


def _package_imports():
    """{(package, package that one of its modules imports when it is imported itself)}"""
    edges = set()
    for root in ("dassl_vr", "trainers", "datasets"):
        for file in sorted((REPOSITORY / root).rglob("*.py")):
            parts = file.relative_to(REPOSITORY).with_suffix("").parts
            module = parts if parts[0] == "dassl_vr" else ("dassl_vr", *parts)
            package = _package(module)
            for other in filter(None, (_package(name) for name in _imported(file, module))):
                if package and other != package:
                    edges.add((package, other))
    return edges


def _package(module):
    """The folder that a module belongs to; None for modules at the top, and for what is not ours."""
    if len(module) < 2 or module[0] != "dassl_vr":
        return None
    return module[1] if any((REPOSITORY / place / module[1]).is_dir() for place in ("dassl_vr", ".")) else None


def _imported(file, module):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = module if file.name == "__init__.py" and module[-1] != "__init__" else module[:-1]
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


def _reaches(edges, start, end):
    seen, pending = set(), [start]
    while pending:
        node = pending.pop()
        if node == end:
            return True
        if node not in seen:
            seen.add(node)
            pending += [b for a, b in edges if a == node]
    return False


# ------------------------------------------------------------------------------------------------------------- figures
def cards(folder):
    """The table of the cards in one folder, whose name says data set and backbone, and what they were measured with.

    Without time, memory and speed, for the machine may have done other work meanwhile.
    """
    groups = read_table(REPOSITORY / RESULTS / folder)
    headers, rows = results_table(groups)
    kept = [index for index, header in enumerate(headers) if header not in LEFT_OUT]
    return f"{_table([[row[index] for index in kept] for row in (headers, *rows)])}\n\n{provenance(groups)}"


def accuracies(folder, *names):
    """Of these cards, accuracy and what was trained; of some methods, `SMM` or `VR-full`, if there are `names`."""
    groups = read_table(REPOSITORY / RESULTS / folder)
    known = {group.name.replace(" ", "-") for group in groups}
    if missing := set(names) - known:
        raise DataError(f"{RESULTS}/{folder}: no card of {', '.join(sorted(missing))}; there are {', '.join(sorted(known))}")
    groups = [group for group in groups if not names or group.name.replace(" ", "-") in names]
    headers, rows = results_table(groups)
    kept = [index for index, header in enumerate(headers) if header in SHORT]
    return _table([[row[index] for index in kept] for row in (headers, *rows)])


OPTIONS = ("epochs", "rows", "to")


def side_by_side(*words):
    """Accuracy of the cards in several folders, a column each, with the number of seeds where it is not the same everywhere.

    Other words than folders:
        epochs=8: of the cards with so many epochs alone.
        rows=tag: a card whose tag says more than epochs and images goes by that, in place of method and mapping.
        to=best: a last column, the mean difference to this row, of the same seeds in all columns, with Student's interval.
    """
    columns, options = _columns(words)
    counts = {len(group.runs) for found in columns.values() for group in found.values()}

    def cell(group):
        if group is None:
            return ""
        return mean_std(group.mean("accuracy"), group.std("accuracy")) + (f" ({len(group.runs)})" if len(counts) > 1 else "")

    rows = [[name, *(cell(found.get(name)) for found in columns.values())] for name in _rows_of(columns)]
    last = options.get("to")
    for row in rows if last else ():
        values = [value for found in columns.values() for value in _differences(found, row[0], last)]
        row.append(_mean_and_interval(values) if row[0] != last else "")
    return _table([["method", *columns, *([f"to {last}"] if last else [])], *rows])


def differences(*words):
    """The mean difference of each row of `side_by_side` to its row `to=`, of the same seeds, with Student's interval of 95 %."""
    columns, options = _columns(words)
    if "to" not in options:
        raise DataError(f"generated: differences {' '.join(words)}: to= is missing, the row that the others are compared with")
    reference, rows = options["to"], []
    for name in _rows_of(columns):
        cells = [_differences(found, name, reference) for found in columns.values()]
        if name != reference:
            rows.append([name, *(_mean_and_interval(values) if values else "" for values in cells)])
    return _table([[f"minus {reference}", *columns], *rows])


def _columns(words):
    """({heading: {row: group}}, the options among `words`)."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if unknown := options.keys() - OPTIONS:
        raise DataError(f"generated: unknown word '{min(unknown)}='; expected {', '.join(f'{name}=' for name in OPTIONS)}")
    columns, tables = {}, [read_table(REPOSITORY / RESULTS / word) for word in words if "=" not in word]
    if epochs := options.get("epochs"):  # 0: there is nothing to train
        tables = [[group for group in groups if _first(group)["epochs"] in (0, int(epochs))] for groups in tables]
    if not all(tables):
        raise DataError(f"generated: {' '.join(words)}: a folder has no card of so many epochs")
    shots = [_first(groups[0]).get("shots") for groups in tables]
    for groups, number in zip(tables, shots, strict=True):
        of_shots = f", {number} images per class" if len({*shots}) > 1 else ""
        found = columns[f"{groups[0].dataset}, {groups[0].backbone}{of_shots}"] = {}
        for group in groups:
            name = _name_of(group, options)
            if name in found:
                raise DataError(f"two cards for '{name}' on {groups[0].dataset}, {groups[0].backbone}; say epochs= or rows=tag")
            found[name] = group
    return columns, options


def _first(group):
    return next(iter(group.runs.values()))


def _name_of(group, options):
    known = ("default", f"ep{_first(group)['epochs']}", f"{_first(group).get('shots')}shots")
    further = " ".join(part for part in group.tag.split("-") if part not in known).replace("_", " ")
    return further if further and options.get("rows") == "tag" else " ".join(filter(None, (group.name, group.mapping)))


def _rows_of(columns):
    return list(dict.fromkeys(name for found in columns.values() for name in found))


def _differences(found, name, reference):
    """Of the seeds that both have."""
    if name not in found or reference not in found:
        return []
    ours, theirs = found[name].runs, found[reference].runs
    return [ours[seed]["accuracy"] - theirs[seed]["accuracy"] for seed in sorted(ours.keys() & theirs.keys())]


def _mean_and_interval(values):
    low, high = mean_interval(values) or (math.nan, math.nan)
    return f"{(low + high) / 2:+.1f} ± {(high - low) / 2:.1f}"


SHORT = ("method", "mapping", "accuracy %", "trained")
LEFT_OUT = ("data", "backbone", "recipe", "train s", "memory MiB", "images/s")


FIGURES = re.compile(r"^# Test accuracy on digits, seeds [\d ]+: (.+\d)\.$", re.MULTILINE)
NO_FIGURE = re.compile(r"^# Accuracy(?: and cost)?: not measured\.$", re.MULTILINE)
MEASURED = "\n# Measured by the command in docs/comparisons.md."


def with_figures(path, text):
    """The text of a recipe, with the accuracies in its head from the cards of its backbone; as it is where there are none.

    Its line is `Test accuracy on digits, seeds 1 2 3: 95.1 +- 0.8.`, or `...: deep 72.4 +- 2.1, shallow 61.0 +- 1.1.`; it takes
    the place of `not measured` when there is a card. Only cards of runs by the recipe alone count: with its number of epochs, and
    without a tag.
    """
    found, unknown = FIGURES.search(text), NO_FIGURE.search(text)
    folder = REPOSITORY / RESULTS / "digits" / read_yaml(path)["MODEL"]["BACKBONE"]["NAME"] / "full"
    if not (found or unknown) or not folder.is_dir():
        return text
    trainer = path.parent.name
    cfg = build_cfg([path], {"TRAINER.NAME": trainer})
    options = cfg.TRAINER.get(trainer.upper(), {})
    own, epochs = (trainer, options.get("MAPPING"), "default"), {cfg.OPTIM.MAX_EPOCH, 0}  # 0: there is nothing to train
    groups = [group for group in read_table(folder) if (group.trainer, group.mapping, group.tag) == own]
    groups = [group for group in groups if {run["epochs"] for run in group.runs.values()} <= epochs]
    of_method = {group.method: group for group in groups}
    usual = options.get("METHOD", trainer.lower())

    def figure(method):
        group = of_method[method]
        return mean_std(group.mean("accuracy"), group.std("accuracy")).replace("±", "+-")

    def anew(match):
        if (match[1] or usual) not in of_method:
            raise DataError(f"{path}: no card in {folder} for '{match[0]}' of its head; measure it, or write 'not measured'")
        return f"{match[1] + ' ' if match[1] else ''}{figure(match[1] or usual)}"

    if found:
        figures, place = re.sub(r"(?:(\w+) )?[\d.]+ \+- [\d.]+", anew, found[1]), found
    elif usual in of_method:
        figures, place = figure(usual), unknown
    else:
        return text
    seeds = " ".join(str(seed) for seed in sorted(groups[0].runs))
    line = f"# Test accuracy on digits, seeds {seeds}: {figures}.{MEASURED if place is unknown else ''}"
    return text[: place.start()] + line + text[place.end() :]


# ------------------------------------------------------------------------------------------------------------- writing
def _table(rows):
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


MADE = (trainers, matrix, mappings, inputs, keys, imports, cards, accuracies, side_by_side, differences)
PARTS = {function.__name__: function for function in MADE}


def generated(text):
    """`text` with every generated part made anew."""

    def anew(match):
        begin, name, arguments, end = match.groups()
        return f"{begin}{PARTS[name](*(arguments or '').split())}\n{end}"

    return PART.sub(anew, text)


@one_line_errors
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; code 1 if a part is out of date")
    args = parser.parse_args(argv)
    load_plugins()
    stale = []
    recipes = sorted(REPOSITORY.glob("configs/trainers/*/*.yaml"))
    for path in (*sorted(REPOSITORY.glob("*.md")), *sorted(DOCS.glob("*.md")), *recipes):
        text = path.read_text(encoding="utf-8")
        new = with_figures(path, text) if path in recipes else generated(text)
        if new != text:
            stale.append(path)
            if not args.check:
                path.write_text(new, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(REPOSITORY)}: " + ("out of date; run python docs/generate.py" if args.check else "written"))
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
