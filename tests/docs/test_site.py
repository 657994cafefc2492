"""The documents as a site: every page is in its navigation, and mkdocs, where it is installed, builds it without a warning."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
OWN_PAGES = {"index.md", "contributing.md", "changelog.md", "benchmarks.md"}  # docs/site_pages.py makes them
mkdocs = pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs: pip install -e '.[docs]'")


def navigation(entries):
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else navigation(value)


def test_every_document_is_in_the_navigation_once():
    named = list(navigation(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert len(set(named)) == len(named)
    assert set(named) == OWN_PAGES | {path.name for path in (REPOSITORY / "docs").glob("*.md")}


def build(source, out):
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(source / "mkdocs.yml"),
        "--site-dir",
        str(out),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@mkdocs
def test_the_site_is_built_without_a_warning(tmp_path):
    done = build(REPOSITORY, tmp_path)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="methods/"' in start and 'href="benchmarks/"' in start and 'href="contributing/"' in start
    assert re.search(r'src="(\./)?pictures/smm_digit_masks.png"', start) and 'href="CITATION.cff"' not in start
    assert 'href="../benchmarks/' in (tmp_path / "comparisons/index.html").read_text(encoding="utf-8")


@mkdocs
@pytest.mark.parametrize("link", ["nowhere.md", "methods.md#nowhere", "../nowhere.md"])
def test_a_dead_link_ends_the_build(tmp_path, link):
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "docs/methods.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# Title\n")
    (tmp_path / "docs/data.md").write_text(f"# Title\n\n[words]({link})\n")
    (tmp_path / "docs/site_pages.py").write_bytes((REPOSITORY / "docs/site_pages.py").read_bytes())
    (tmp_path / "mkdocs.yml").write_text(re.sub(r"\nnav:.*", "\n", (REPOSITORY / "mkdocs.yml").read_text(), flags=re.DOTALL))
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1 and "nowhere" in done.stderr
