"""What the documents name exists: files, commands and their flags, places in the code; what is generated is up to date."""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "benchmarks/README.md"]
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # a changelog tells of names of the past, too


def relative(path):
    return str(path.relative_to(REPOSITORY))


def text_of(path):
    return path.read_text(encoding="utf-8")


def headings(path):
    """The anchors that GitHub makes of the headings."""
    lines = re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


def commands(path):
    """The commands of a document's shell examples that are ours, as lists of words without comments."""
    for block in re.findall(r"```bash\n(.*?)```", text_of(path), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[0] in ("srun", "torchrun"):
                words = words[next(i for i, word in enumerate(words) if word.endswith(".py") or word == "python") :]
                words = words if words[0] == "python" else ["python", *words]
            if words and (words[0] in ("bash", "python") or words[0].startswith("dassl-vr-")):
                yield words


def module_of(words):
    """The module whose `main` answers a command; None for scripts that only train, and for those of other repositories."""
    if words[0].startswith("dassl-vr-"):
        name = words[0].removeprefix("dassl-vr-")
        assert f'"{name}"' in (REPOSITORY / "setup.py").read_text(encoding="utf-8"), words[0]
        return f"dassl_vr.cli.{name}"
    if words[1] == "-m":
        door = REPOSITORY / words[2].replace(".", "/")
        assert (door / "__main__.py").is_file() or door.with_suffix(".py").is_file(), words[2]
        return f"dassl_vr.cli.{words[2].rpartition('.')[2]}"
    if words[1] == "-c":
        return None
    assert (REPOSITORY / words[1]).is_file(), words[1]
    if words[0] == "python" and "/" not in words[1]:
        return f"dassl_vr.cli.{Path(words[1]).stem}"
    called = re.search(r"-m (dassl_vr\.cli\.\w+)", (REPOSITORY / words[1]).read_text(encoding="utf-8"))
    return called.group(1) if called else None


def help_of(module, words, capsys):
    called = [Path(words[1]).stem] if module.endswith(".method") else []  # one command behind the scripts of all methods
    try:
        code = importlib.import_module(module).main([*called, "--help"])
    except SystemExit as end:
        code = end.code
    assert code in (0, None), words
    return capsys.readouterr().out


@pytest.mark.parametrize("path", CURRENT, ids=relative)
def test_commands_exist_with_their_flags(path, capsys):
    for words in commands(path):
        module = module_of(words)
        if module is None:
            continue
        flags = [word for word in words[1:] if re.fullmatch(r"--[a-z-]+", word)]
        known = help_of(module, words, capsys)
        for flag in flags:
            assert re.search(rf"{flag}\b", known), f"{' '.join(words)}: {module} has no {flag}"


@pytest.mark.parametrize("path", CURRENT, ids=relative)
def test_paths_in_the_text_exist(path):
    """`trainers/coop.py` and the like; `<name>` stands for any, and so do names in examples that are not ours."""
    roots = ("dassl_vr", "trainers", "datasets", "configs", "scripts", "docs", "tests", "benchmarks")
    for name in re.findall(r"`((?:\w+/)+[\w.*{},-]*)`", re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL)):
        if name.split("/")[0] in roots and "{" not in name:
            assert list(REPOSITORY.glob(name.rstrip("/"))), name


def test_the_readme_is_short():
    assert len(text_of(REPOSITORY / "README.md").splitlines()) < 170


def test_the_readme_reaches_every_document():
    linked = set(re.findall(r"\]\((docs/[\w.]+)\)", text_of(REPOSITORY / "README.md")))
    assert linked >= {relative(path) for path in (REPOSITORY / "docs").glob("*.md")}


@pytest.mark.parametrize("path", CURRENT, ids=relative)
def test_names_in_the_text_exist(path):
    """`dassl_vr.reprogramming.inputs.SampleSpecificMask.forward` and the like."""
    for name in re.findall(r"`(dassl_vr(?:\.\w+)+)`", re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL)):
        module, attributes = name, []
        while not _is_module(module):
            module, _, attribute = module.rpartition(".")
            attributes.insert(0, attribute)
        found = importlib.import_module(module) if attributes else None
        for attribute in attributes:
            assert hasattr(found, attribute), name
            found = getattr(found, attribute)


def _is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
