"""Fuzzing: many damaged or odd inputs, and the promise that each command keeps for all of them.

    python tests/fuzz.py                              # 2,000 inputs of seed 1
    python tests/fuzz.py --seed 7 --inputs 500
    python tests/fuzz.py --seed 7 --only bundle:41 --keep /tmp/case    # one of them again, its files kept

The promise: a command ends with its documented exit codes, and with code 2 it has printed one line on standard error that
begins with `error:`, no traceback, and left nothing half-written; with code 0 what it wrote can be read back; what it reads stays
as it was. Each input runs in a fork of this process, which has imported everything already.
"""

import argparse
import collections
import contextlib
import io
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # forks beside threads may hang
os.environ.setdefault("MPLBACKEND", "agg")

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np
import torch
import yaml
from PIL import Image

from dassl_vr.cli import compare, export, predict, prepare, report, reproduce, sweep, train, visualize
from dassl_vr.config import get_cfg_default
from dassl_vr.data.archive import extract
from dassl_vr.deploy.description import _seal
from dassl_vr.engine import TrainerX
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.errors import UserError

SLOW = 20  # seconds after which a command is asked to save and end
HANGS = 20  # more seconds in which it has to do so
MEMORY = 6 << 30  # bytes beyond what the imports take
RECIPES = ("LinearProbe/tiny_vit", "SMM/tiny_vit", "VR/tiny_vit_pad", "VPT/tiny_vit", "CoOp/tiny_clip", "VP/tiny_clip")
SHORT = ["OPTIM.MAX_EPOCH", "1", "VERBOSE", "False", "TRAIN.END_FIGURES", "False", "DATALOADER.NUM_WORKERS", "0"]
SHORT += ["INPUT.SIZE", "(32, 32)", "DATALOADER.TRAIN_X.BATCH_SIZE", "8", "USE_CUDA", "False"]

# fmt: off
NUMBERS = (
    0, 1, -1, 2, 7, 0.5, -0.5, 255, 65536, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 1e-320, 1e308, math.inf, -math.inf, math.nan,
)
TEXTS = (
    "", " ", "x", "None", "nan", "../../..", "no/such/place", "a" * 300, "b" * 5000, "=1+1", "$x_$", "\x1b[31m", "\u202e", "日本",
    "%s{}", "(1,",
)
OTHERS = (None, True, False, [], {}, [[]], [None], {"a": 1}, [1, 2], "1e999", "-5")
# fmt: on


# ------------------------------------------------------------------------------------------------------- mutations
def odd_value(rng, like=None):
    """A value that may be wrong; near to `like` half of the times, if that is a number."""
    if isinstance(like, (int, float)) and not isinstance(like, bool) and rng.random() < 0.5:
        return rng.choice((-like, like + 1, like - 1, like * 10, like / 3, like * 1e6, float(like)))
    if isinstance(like, (list, tuple)) and like and rng.random() < 0.6:
        changed = list(like)
        place = rng.randrange(len(changed))
        changed[place] = odd_value(rng, changed[place])
        return changed if rng.random() < 0.7 else changed[:place]
    return rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS)))


def places_in(tree, path=()):
    """Paths of all nodes below `tree`."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places_in(value, (*path, key))


def mutate_tree(rng, tree):
    """Change one node of nested dictionaries and lists in place."""
    places = list(places_in(tree))
    if not places:
        return
    *path, key = rng.choice(places)
    node = tree
    for step in path:
        node = node[step]
    how = rng.random()
    if how < 0.15:
        del node[key]
    elif how < 0.25 and isinstance(node, dict):
        node[rng.choice(TEXTS)] = node.pop(key)
    elif how < 0.35 and isinstance(node, list):
        node.insert(key, rng.choice(node))
    elif how < 0.45:
        node[key] = [node[key]]
    else:
        node[key] = odd_value(rng, node[key])


def mutate_bytes(rng, data):
    """`data` with one kind of damage."""
    data = bytearray(data)
    start = rng.randrange(len(data) + 1)
    stop = min(len(data), start + rng.choice((1, 2, 4, 16, 64, 1024)))
    how = rng.randrange(7)
    if how == 0:
        for _ in range(rng.choice((1, 1, 3, 20))):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 1:
        del data[start:]
    elif how == 2:
        del data[start:stop]
    elif how == 3:
        data[start:start] = rng.randbytes(stop - start)
    elif how == 4:
        data[start:stop] = bytes(stop - start)
    elif how == 5:
        data[start:start] = data[start:stop]
    else:
        data[start:stop] = rng.choice(
            (b"\xff" * 8, b"\x00", b'"', b"{" * 3000, b"[" * 3000, b"NaN", b"1e999", b"9" * 5000, b"\xef\xbb\xbf")
        )
    return bytes(data)


def mutate_words(rng, words):
    """A command line with a word dropped, doubled, moved or replaced."""
    words = list(words)
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(words)) if words else 0
        how = rng.randrange(6)
        if how == 0 and words:
            del words[place]
        elif how == 1 and words:
            words.insert(place, words[place])
        elif how == 2 and words:
            words.append(words.pop(place))
        elif how == 3:
            words.insert(
                place, rng.choice(("--seed", "--resume", "--no-train", "--load-epoch", "--help", "--", "-x", "--plugin", "--json"))
            )
        elif words:
            word = rng.choice((*NUMBERS, *TEXTS, "caf\udce9"))
            words[place] = str(word).replace("\x00", "")
    return words


# ---------------------------------------------------------------------------------------------------------- inputs
@dataclass
class Input:
    """A command on an input.

    Attributes:
        call: gives the exit code.
        codes: those that the command may end with besides 0 and 2.
        check: called with the place after exit code 0; raises if what was written is not good.
    """

    call: object
    codes: tuple = ()
    check: object = None
    words: list = field(default_factory=list)


def command(main, words, **options):
    words = [str(word) for word in words]

    def call():
        sys.argv = ["fuzz", *words]
        return main(words)

    return Input(call, words=words, **options)


def good_results(place):
    """Every results.json there is strict JSON with finite accuracies."""
    for path in place.rglob("results.json"):
        results = json.loads(path.read_text(encoding="utf-8"), parse_constant=_not_json)
        for key in ("accuracy", "accuracy_train", "macro_f1"):
            value = results.get(key)
            assert value is None or 0 <= value <= 100, f"{key} is {value}"


def _not_json(word):
    raise ValueError(f"results.json holds {word}")


class Inputs:
    """Makes the inputs of each kind from good files, which are made once."""

    def __init__(self, base):
        self.base = base
        self.images, self.run, self.cut, self.good_bundle = (base / name for name in ("images", "run", "cut", "bundle"))
        rng = np.random.default_rng(0)
        for number, name in enumerate(("cat", "dog", "owl")):
            (self.images / name).mkdir(parents=True)
            for k in range(8):
                pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                pixels[..., number] //= 3
                Image.fromarray(pixels).save(self.images / name / f"{k}.png")
        self.recipe = ["--trainer", "LinearProbe", "--config-file", self.recipe_file("LinearProbe/tiny_vit")]
        self.data = ["--dataset-config-file", REPOSITORY / "configs/datasets/folder.yaml"]
        made = [
            command(train.main, self.train(self.images, self.run)),
            Input(lambda: self.train_and_stop(self.train(self.images, self.cut, "OPTIM.MAX_EPOCH", "3")), codes=(75,)),
            command(export.main, [self.run, self.good_bundle]),
        ]
        for item in made:
            outcome = run_in_fork(item, base, SLOW * 5)
            assert outcome.code == (item.codes or (0,))[0], outcome.error
        self.flat = list(leaves(get_cfg_default()))

    @staticmethod
    def recipe_file(name):
        return REPOSITORY / f"configs/trainers/{name}.yaml"

    def train(self, images, out, *more):
        return [*self.recipe, *self.data, "--root", images, "--output-dir", out, "--seed", "1", *SHORT, *more]

    @staticmethod
    def train_and_stop(words):
        """Be asked to end in the second epoch."""
        update = TrainerX.model_update

        def update_and_signal(self, *arguments):
            update(self, *arguments)
            if self.epoch == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        TrainerX.model_update = update_and_signal
        return train.main([str(word) for word in words])

    def copy(self, what, place):
        return Path(shutil.copytree(what, place / "copy"))

    # --- kinds
    def config(self, rng, place):
        name = rng.choice(RECIPES)
        settings = yaml.safe_load(self.recipe_file(name).read_text())
        for _ in range(rng.choice((1, 1, 2, 3))):
            if rng.random() < 0.3:
                mutate_tree(rng, settings)
                continue
            name_of_key, default = rng.choice(self.flat)
            *path, key = name_of_key.split(".")
            node = settings
            for step in path:
                if not isinstance(node.get(step), dict):
                    node[step] = {}
                node = node[step]
            node[key] = odd_value(rng, default)
        text = yaml.safe_dump(settings, allow_unicode=True).encode("utf-8", "surrogatepass")
        file = place / "recipe.yaml"
        file.write_bytes(mutate_bytes(rng, text) if rng.random() < 0.25 else text)
        words = [
            "--trainer",
            name.split("/")[0],
            "--config-file",
            file,
            *self.data,
            "--root",
            self.images,
            "--output-dir",
            place / "out",
        ]
        return command(train.main, [*words, "--seed", "1", *SHORT[: rng.choice((8, len(SHORT)))]], check=good_results)

    def command(self, rng, place):
        picture = self.images / "cat" / "0.png"
        out = place / "out"
        choices = [
            (train.main, self.train(self.images, out), 6),
            (train.main, ["--eval-only", "--model-dir", self.run, "--output-dir", out, "VERBOSE", "False"], 2),
            (train.main, [*self.train(self.images, out), rng.choice(self.flat)[0], str(odd_value(rng))], 6),
            (predict.main, [self.run, picture, "--topk", "2"], 2),
            (predict.main, [self.good_bundle, self.images / "dog", "--csv"], 2),
            (export.main, [self.run, out], 2),
            (visualize.main, [self.run, "--out", out, "--number", "1", "--features", "0"], 1),
            (report.main, [self.base, "--format", "csv"], 2),
            (prepare.main, ["eurosat", "digits", "--root", place, "--check"], 1),
            (compare.main, ["digits", "tiny_vit", "--seeds", "1", "2", "--jobs", "1"], 2),
            (reproduce.main, ["methods", "--backbone", "lite0", "--datasets", "digits"], 2),
            (sweep.main, ["--trainers", "SMM", "VR-full", "--datasets", "digits", "--backbones", "lite0"], 2),
        ]
        main, words, _ = rng.choices(choices, [weight for *_, weight in choices])[0]
        words = mutate_words(rng, map(str, words))
        if main in (compare.main, reproduce.main, sweep.main):
            words = ["--dry-run", *words]
        codes = (1,) if main in (predict.main, prepare.main) else ()
        return command(main, words, codes=codes, check=good_results)

    def split(self, rng, place):
        entries = [[f"{name}/{k}.png", label, name] for label, name in enumerate(("cat", "dog", "owl")) for k in range(8)]
        rng.shuffle(entries)
        content = {"train": entries[:14], "val": entries[14:18], "test": entries[18:]}
        for _ in range(rng.choice((1, 1, 2, 4))):
            mutate_tree(rng, content)
        text = json.dumps(content, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        data = self.copy(self.images, place)
        (data / "split.json").write_bytes(mutate_bytes(rng, text) if rng.random() < 0.4 else text)
        return command(train.main, self.train(data, place / "out"), check=good_results)

    def results(self, rng, place):
        run = self.copy(self.run, place)
        path = run / rng.choice(("results.json", "results.json", "config.yaml", "predictions.npz"))
        text = path.read_bytes()
        if path.suffix == ".json" and rng.random() < 0.7:
            content = json.loads(text)
            for _ in range(rng.choice((1, 1, 3))):
                mutate_tree(rng, content)
            text = json.dumps(content).encode()
        else:
            text = mutate_bytes(rng, text)
        path.write_bytes(text)
        main, words = rng.choice((
            (report.main, [run]),
            (report.main, [run, "--format", "html"]),
            (report.main, [run, "--per-class"]),
            (report.main, [run, "--cards", place / "cards"]),
            (report.main, [self.run, run, "--pair", "LinearProbe/run", "LinearProbe/copy"]),
            (predict.main, [run, self.images / "cat" / "1.png"]),
            (train.main, ["--eval-only", "--model-dir", run, "VERBOSE", "False"]),
            (train.main, [*self.train(self.images, run), "--resume", run]),
        ))  # fmt: skip
        return command(main, words, codes=(1,) if main is predict.main else ())

    def resume(self, rng, place):
        run = self.copy(self.cut, place)
        path = run / "resume.pt"
        if rng.random() < 0.7:
            content = torch.load(path, weights_only=True)
            content = json_like(content)
            for _ in range(rng.choice((1, 1, 2))):
                mutate_tree(rng, content)
            torch.save(content, path)
        else:
            path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        words = self.train(self.images, run, "OPTIM.MAX_EPOCH", "3")
        return command(train.main, [*words[: -len(SHORT) - 2], "--resume", run, *words[-len(SHORT) - 2 :]], check=good_results)

    def checkpoint(self, rng, place):
        run = self.copy(self.run, place)
        path = rng.choice([path for path in sorted((run / "head").iterdir()) if path.is_file()])
        if path.suffix != ".txt" and path.name != "checkpoint" and rng.random() < 0.6:
            content = json_like(torch.load(path, weights_only=True))
            mutate_tree(rng, content)
            torch.save(content, path)
        else:
            path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        words = rng.choice(([run, self.images / "cat" / "0.png"], None))
        if words:
            return command(predict.main, words, codes=(1,))
        return command(train.main, ["--eval-only", "--model-dir", run, "VERBOSE", "False"])

    def weights(self, rng, place):
        from safetensors.torch import load_file, save

        original = REPOSITORY / "dassl_vr/backbones/tiny/tiny_vit.safetensors"
        file = place / rng.choice(("w.safetensors", "w.pth"))
        if rng.random() < 0.5:
            state = load_file(original)
            name = rng.choice(sorted(state))
            how = rng.randrange(6)
            if how == 0:
                state.pop(name)
            elif how == 1:
                state[name] = state[name] * rng.choice((math.nan, math.inf))
            elif how == 2:
                state[name] = state[name].to(rng.choice((torch.int64, torch.bool, torch.float64, torch.complex64)))
            elif how == 3:
                state[name] = state[name].flatten()[:-1].clone()
            elif how == 4:
                state = {rng.choice(("module.", "model.", "x.")) + key: value for key, value in state.items()}
            else:
                state[name + "x"] = state.pop(name)
            if file.suffix == ".pth":
                content = (
                    state
                    if rng.random() < 0.5
                    else {rng.choice(("state_dict", "model", "ema", "x")): state, "epoch": odd_value(rng)}
                )
                torch.save(content, file)
            else:
                state = {key: value for key, value in state.items() if not value.is_complex()}
                file.write_bytes(save(state))
        else:
            file.write_bytes(mutate_bytes(rng, original.read_bytes()))
        return command(train.main, [*self.train(self.images, place / "out"), "MODEL.BACKBONE.WEIGHTS", file], check=good_results)

    def bundle(self, rng, place):
        bundle = self.copy(self.good_bundle, place)
        path = bundle / rng.choice(("config.json", "config.json", "prompt.safetensors"))
        if path.suffix == ".json" and rng.random() < 0.8:
            content = json.loads(path.read_text())
            for _ in range(rng.choice((1, 1, 2))):
                mutate_tree(rng, content)
            content.pop("sha256", None)
            with contextlib.suppress(ValueError, TypeError):
                content["sha256"] = _seal(content)
            path.write_text(json.dumps(content))
        else:
            path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        return command(predict.main, [bundle, self.images / "cat" / "0.png"], codes=(1,))

    def archive(self, rng, place):
        file = place / rng.choice(("a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"))
        names = [
            "data/x.png",
            "data/y/z.png",
            "data/up",
            "/abs",
            "../out",
            "a" * 300,
            "data/x.png",
            "caf\udce9",
            "nul\\..\\x",
            "data",
            "con:",
            ".",
        ]
        buffer = io.BytesIO()
        if file.suffix == ".zip":
            kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            with zipfile.ZipFile(buffer, "w", rng.choice(kinds)) as archive:
                for name in rng.sample(names, rng.randrange(1, 6)):
                    entry = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
                    entry.compress_type = archive.compression
                    entry.external_attr = rng.choice((0o100644, 0o120777, 0o040755, 0o010644, 0)) << 16
                    archive.writestr(entry, rng.randbytes(rng.randrange(2000)))
        else:
            mode = {".gz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(file.suffix, "w")
            with tarfile.open(fileobj=buffer, mode=mode, format=rng.choice((0, 1, 2))) as archive:
                for name in rng.sample(names, rng.randrange(1, 6)):
                    entry = tarfile.TarInfo(name)
                    entry.type = rng.choice(
                        (
                            *[tarfile.REGTYPE] * 5,
                            tarfile.SYMTYPE,
                            tarfile.LNKTYPE,
                            tarfile.DIRTYPE,
                            tarfile.FIFOTYPE,
                            tarfile.CHRTYPE,
                        )
                    )
                    entry.linkname = rng.choice(("x.png", "../..", "/etc", "data/up", "", "data/x.png"))
                    content = rng.randbytes(rng.randrange(2000)) if entry.isreg() else b""
                    entry.size = len(content)
                    with contextlib.suppress(ValueError):  # what the older formats cannot hold
                        archive.addfile(entry, io.BytesIO(content))
        data = buffer.getvalue()
        file.write_bytes(mutate_bytes(rng, data) if rng.random() < 0.7 else data)
        destination = place / "root" / "data_set"
        destination.parent.mkdir()
        provides = rng.choice(("", "data", "data/x.png"))

        def call():
            try:
                extract(file, destination, provides=provides)
            except UserError as error:
                print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
                return 2
            return 0

        return Input(call, check=lambda place: inside(place, destination), words=[file.name, provides])

    def image(self, rng, place):
        source = Image.open(self.images / "cat" / "0.png")
        kind = rng.choice(("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000"))
        source = source.convert(rng.choice(("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I", "F", "I;16")))
        buffer = io.BytesIO()
        try:
            source.save(buffer, kind)
        except (OSError, ValueError, KeyError):
            source.convert("RGB").save(buffer, kind)
        data = buffer.getvalue()
        folder = place / "pictures"
        folder.mkdir()
        suffix = rng.choice((".png", ".jpg", f".{kind.lower()[:4]}"))
        (folder / f"a{suffix}").write_bytes(mutate_bytes(rng, data) if rng.random() < 0.85 else data)
        if rng.random() < 0.7:
            return command(predict.main, [self.good_bundle, folder / f"a{suffix}"], codes=(1,))
        images = self.copy(self.images, place)
        shutil.copy(folder / f"a{suffix}", images / "cat")
        how = rng.choice(("skip", "error"))
        return command(train.main, self.train(images, place / "out", "DATASET.ON_BAD_IMAGE", how), check=good_results)


# How many of 100 inputs are of each kind, and what makes them
KINDS = {
    "config": (20, Inputs.config),
    "command": (18, Inputs.command),
    "split": (10, Inputs.split),
    "results": (10, Inputs.results),
    "resume": (7, Inputs.resume),
    "checkpoint": (5, Inputs.checkpoint),
    "weights": (5, Inputs.weights),
    "bundle": (10, Inputs.bundle),
    "archive": (8, Inputs.archive),
    "image": (7, Inputs.image),
}


def leaves(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def json_like(value):
    """With ordinary dictionaries and lists, which can be changed."""
    if isinstance(value, dict):
        return {key: json_like(entry) for key, entry in value.items()}
    return [json_like(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def inside(place, destination):
    """Nothing was written, and no link leads, outside of `destination`."""
    for path in place.rglob("*"):
        if path.is_symlink():
            assert destination.resolve() in path.resolve().parents, f"{path} leads to {path.resolve()}"
        assert path.parent == place or path == destination.parent or path == destination or destination in path.parents, (
            f"{path} was written"
        )


# --------------------------------------------------------------------------------------------------------- running
@dataclass
class Outcome:
    code: int
    output: str
    error: str
    seconds: float
    slow: bool


def run_in_fork(item, place, limit):
    """Run an input with `place` as its working directory; one that takes longer than `limit` seconds gets SIGTERM, then SIGKILL."""
    streams = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
    sys.stdout.flush()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            for number, stream in enumerate(streams, start=1):
                os.dup2(stream.fileno(), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(place)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            code = item.call() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    status, slow = None, False
    while status is None:
        done, raw = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - start
        if done:
            status = os.waitstatus_to_exitcode(raw)
        elif seconds > limit + HANGS:
            os.killpg(pid, signal.SIGKILL)
        elif seconds > limit and not slow:
            slow = True
            os.kill(pid, signal.SIGTERM)
        else:
            time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # workers that it left
    texts = []
    for stream in streams:
        stream.seek(0)
        texts.append(stream.read().decode("utf-8", "backslashreplace"))
        stream.close()
    return Outcome(status, *texts, time.monotonic() - start, slow)


def listing(directory):
    """{path: (size, time of the last change)} of what lies below."""
    return {path: (s.st_size, s.st_mtime_ns) for path in directory.rglob("*") if (s := path.lstat()) and not path.is_dir()}


def faults_of(item, outcome, place, before):
    """What of the promise was broken, a line each."""
    allowed = {0, 2, *item.codes, *((75, 143, -signal.SIGTERM) if outcome.slow else ())}
    if outcome.code not in allowed:
        what = "was killed: it did not end when asked to" if outcome.code == -signal.SIGKILL else f"exit code {outcome.code}"
        yield f"{what} :: {(outcome.error.strip().splitlines() or [''])[-1][:300]}"
    if "Traceback (most recent call last)" in outcome.output + outcome.error:
        yield f"a traceback: {(outcome.error.strip().splitlines() or [''])[-1][:300]}"
    if outcome.code == 2:
        lines = [line for line in outcome.error.splitlines() if line.strip()]
        errors = [line for line in lines if not line.startswith("skipped: ")]  # by predict.py, a line for each image
        if len(errors) != 1 or not errors[0].startswith("error: "):
            yield f"{len(lines)} lines on standard error: {lines[:3]}"
        if any(ord(letter) < 32 or ord(letter) == 127 for line in lines for letter in line):
            yield f"control characters in the line: {lines}"
        begun = {path.parent for path in place.rglob("log.txt") if (path.parent / "config.yaml").exists()}
        left = [path for path in listing(place).keys() - before.keys() if not begun & set(path.parents)]
        if left:
            yield f"left behind: {', '.join(str(path.relative_to(place)) for path in sorted(left)[:5])}"
    if outcome.code == 0 and item.check:
        try:
            item.check(place)
        except Exception as error:
            yield f"exit code 0, but {type(error).__name__}: {error}"


class Fuzzer:
    """Runs inputs and gathers what is wrong; `with` removes its files."""

    def __init__(self, seed, keep=None):
        self.seed, self.keep = seed, keep
        self.codes, self.slow, self.faults = collections.defaultdict(collections.Counter), 0, []

    def __enter__(self):
        load_plugins()
        torch.set_num_threads(1)
        self.base = Path(tempfile.mkdtemp(prefix="fuzz-"))
        os.environ["XDG_CACHE_HOME"] = str(self.base / "cache")
        (self.base / "good").mkdir()
        self.inputs = Inputs(self.base / "good")
        self.good = listing(self.base / "good")
        return self

    def __exit__(self, *error):
        shutil.rmtree(self.base, ignore_errors=True)

    def one(self, kind, number):
        """The faults of input `number` of `kind`."""
        rng = random.Random(f"{self.seed}/{kind}/{number}")
        place = Path(self.keep or self.base / "place" / "a" / "b" / "c")
        place.mkdir(parents=True)
        item = KINDS[kind][1](self.inputs, rng, place)
        before = listing(place)
        outcome = run_in_fork(item, place, SLOW)
        found = list(faults_of(item, outcome, place, before))
        if listing(self.base / "good") != self.good:
            found.append("files that it only reads have changed")
            self.good = listing(self.base / "good")
        self.codes[kind][outcome.code] += 1
        self.slow += outcome.slow
        for fault in found:
            self.faults.append((kind, number, fault))
            print(f"FAULT {kind}:{number} {fault}\n      {' '.join(map(repr, item.words))[-400:]}", flush=True)
        if self.keep:
            print(f"exit code {outcome.code}, {outcome.seconds:.1f} s\n--- output\n{outcome.output}\n--- error\n{outcome.error}")
        else:
            shutil.rmtree(self.base / "place", ignore_errors=True)
        return found

    def many(self, total):
        """Run `total` inputs, the kinds in their proportion."""
        weights = {kind: weight for kind, (weight, _) in KINDS.items()}
        order = [kind for kind, weight in weights.items() for _ in range(max(1, round(total * weight / sum(weights.values()))))]
        random.Random(f"{self.seed}/order").shuffle(order)
        numbers = collections.Counter()
        for kind in order[:total]:
            self.one(kind, numbers[kind])
            numbers[kind] += 1

    def summary(self):
        rows = [
            f"{kind}: {sum(codes.values())} inputs, exit codes {dict(sorted(codes.items()))}" for kind, codes in self.codes.items()
        ]
        total = sum(sum(codes.values()) for codes in self.codes.values())
        return "\n".join(
            [*rows, f"seed {self.seed}: {total} inputs, {self.slow} slow ones asked to end, {len(self.faults)} faults"]
        )


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--only", metavar="KIND:NUMBER", help="one input, or all of a kind (KIND)")
    parser.add_argument("--keep", metavar="DIR", help="with --only: keep the input's files there, and show what was printed")
    args = parser.parse_args(argv)
    start = time.monotonic()
    with Fuzzer(args.seed, args.keep) as fuzzer:
        if args.only and ":" in args.only:
            kind, number = args.only.split(":")
            fuzzer.one(kind, int(number))
        elif args.only:
            for number in range(args.inputs):
                fuzzer.one(args.only, number)
        else:
            fuzzer.many(args.inputs)
        print(f"{fuzzer.summary()}, {time.monotonic() - start:.0f} s")
    return bool(fuzzer.faults)


if __name__ == "__main__":
    sys.exit(main())
