"""What docs/generate.py writes is up to date, and it notices when it is not."""

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", REPOSITORY / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documents_are_up_to_date(generate, capsys):
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_a_part_that_is_out_of_date_is_written_anew(generate, tmp_path, monkeypatch, capsys):
    path, old = tmp_path / "page.md", "before\n<!-- generated: inputs -->\nstale\n<!-- end -->\nafter\n"
    path.write_text(old)
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    monkeypatch.setattr(generate, "REPOSITORY", tmp_path)
    assert generate.main(["--check"]) == 1 and path.read_text() == old
    assert "page.md: out of date; run python docs/generate.py" in capsys.readouterr().out
    assert generate.main([]) == 0
    written = path.read_text()
    assert written.startswith("before\n") and written.endswith("after\n") and "`smm`" in written and "stale" not in written
    assert generate.main(["--check"]) == 0


def test_every_key_has_a_comment(generate):
    rows = [line.split(" | ") for line in generate.keys().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert not [row[0] for row in rows if not row[-1].strip(" |")]
