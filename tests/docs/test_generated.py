"""What docs/generate.py writes is up to date, and it notices when it is not."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from dassl_vr.report.cards import read_table, write_cards
from dassl_vr.report.runs import Group

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "results"
TABLES = sorted({path.parent.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("*.json")})


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


@pytest.fixture
def page(generate, tmp_path, monkeypatch):
    """(a page with the table of a folder of cards, written; one of the cards)."""
    group = Group("SMM", "smm", "digits", "lite0", "ilm", "default")
    names = {"trainer": "SMM", "method": "smm", "dataset": "digits", "backbone": "lite0", "mapping": "ilm", "precision": "fp32"}
    names |= {"protocol": "full", "subsample_classes": "all", "device": "a machine", "evaluated_split": "test", "command": "train"}
    names |= {"evaluated_model": "last_step", "date": "2026-11-27", "versions": {"torch": "2.10"}, "shots": -1, "epochs": 8}
    names |= {"params_trainable": 54147, "params_backbone": 4652008, "cores": 2, "processes": 1, "seconds_train": 60.0}
    for seed, accuracy in enumerate((90.0, 91.0, 93.0)):
        group.runs[seed] = {**names, "seed": seed, "accuracy": accuracy, "macro_f1": accuracy}
        group.directories[seed] = tmp_path / f"seed{seed}"
    ((card,), _) = write_cards([group], tmp_path / "results")
    (tmp_path / "docs").mkdir()
    path = tmp_path / "docs/page.md"
    path.write_text("<!-- generated: cards digits/lite0/full -->\n<!-- end -->\n")
    monkeypatch.setattr(generate, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(generate, "REPOSITORY", tmp_path)
    assert generate.main([]) == 0
    return path, card


def test_a_table_is_made_of_cards(page):
    lines = page[0].read_text().splitlines()
    assert lines[1].startswith("| method | epochs | accuracy % | 95 % interval | macro-F1 % |")
    assert lines[3].startswith("| SMM | 8 | 91.3 ± 1.5 | 87.5 to 95.1 | 91.3 ± 1.5 |")
    assert lines[5].startswith("Measured 2026-11-27 on a machine (2 cores), fp32;") and lines[5].endswith(
        "3 runs, 3 minutes of training in all."
    )


def test_a_short_table_of_the_same_cards(page, generate, capsys):
    for names in ("", " SMM"):
        page[0].write_text(f"<!-- generated: accuracies digits/lite0/full{names} -->\n<!-- end -->\n")
        assert generate.main([]) == 0
        head, _, *rows = page[0].read_text().splitlines()[1:-1]
        assert head == "| method | accuracy % | trained |" and rows == ["| SMM | 91.3 ± 1.5 | 54,147 |"]
    page[0].write_text("<!-- generated: accuracies digits/lite0/full SMM VR-full -->\n<!-- end -->\n")
    capsys.readouterr()
    assert generate.main([]) == 2 and "no card of VR-full; there are SMM" in capsys.readouterr().err


def test_tables_side_by_side_say_how_many_seeds_where_that_differs(page, generate, tmp_path):
    (of_three,) = read_table(tmp_path / "results/digits/lite0/full")
    for backbone, mapping, seeds in (("rn18", "ilm", (0, 1, 2)), ("lite0", "blm", (0, 1))):
        group = Group("SMM", "smm", "digits", backbone, mapping, "default")
        for seed in seeds:
            group.runs[seed] = {**of_three.runs[seed], "backbone": backbone, "mapping": mapping}
            group.directories[seed] = tmp_path / f"seed{seed}"
        write_cards([group], tmp_path / "results")
    page[0].write_text("<!-- generated: side_by_side digits/lite0/full digits/rn18/full -->\n<!-- end -->\n")
    assert generate.main([]) == 0
    head, _, *rows = page[0].read_text().splitlines()[1:-1]
    assert head == "| method | digits, lite0 | digits, rn18 |"
    assert sorted(rows) == ["| SMM blm | 90.5 ± 0.7 (2) |  |", "| SMM ilm | 91.3 ± 1.5 (3) | 91.3 ± 1.5 (3) |"]


def test_tables_side_by_side_say_how_many_images_where_that_differs(page, generate, tmp_path):
    (of_three,) = read_table(tmp_path / "results/digits/lite0/full")
    for shots in (6, 60):
        group = Group("SMM", "smm", "digits", "lite0", "ilm", f"{shots}shots")
        group.runs[0], group.directories[0] = {**of_three.runs[0], "shots": shots}, tmp_path / "seed0"
        write_cards([group], tmp_path / "results")
    page[0].write_text("<!-- generated: side_by_side digits/lite0/6shots digits/lite0/60shots -->\n<!-- end -->\n")
    assert generate.main([]) == 0
    head = page[0].read_text().splitlines()[1]
    assert head == "| method | digits, lite0, 6 images per class | digits, lite0, 60 images per class |"


@pytest.fixture
def variants(page, tmp_path):
    """write(tag, accuracies, epochs) gives a card of 14 images per class on each of two backbones."""
    (of_three,) = read_table(tmp_path / "results/digits/lite0/full")

    def write(tag, accuracies, epochs=8):
        for backbone in ("lite0", "rn18"):
            group = Group("SMM", "smm", "digits", backbone, "ilm", f"ep{epochs}-14shots{tag}")
            for seed, accuracy in enumerate(accuracies):
                of_seed = {"seed": seed, "accuracy": accuracy, "backbone": backbone, "epochs": epochs, "shots": 14}
                group.runs[seed], group.directories[seed] = {**of_three.runs[seed], **of_seed}, tmp_path / f"seed{seed}"
            write_cards([group], tmp_path / "results")

    return write


FOLDERS = "digits/lite0/14shots digits/rn18/14shots"


def table(page, generate, words):
    page[0].write_text(f"<!-- generated: {words} -->\n<!-- end -->\n")
    assert generate.main([]) == 0
    head, _, *rows = page[0].read_text().splitlines()[1:-1]
    return [head, *sorted(rows)]


def test_differences_are_of_the_same_seeds(page, generate, variants):
    """By hand: 88 - 90, 90 - 91 and 90 - 93 are -2, -1 and -3; Student's t of two degrees of freedom is 4.303, of five 2.571."""
    variants("-best", (90.0, 91.0, 93.0))
    variants("-no_prompt", (88.0, 90.0, 90.0))
    assert table(page, generate, f"differences {FOLDERS} rows=tag to=best") == [
        "| minus best | digits, lite0 | digits, rn18 |",
        "| no prompt | -2.0 ± 2.5 | -2.0 ± 2.5 |",
    ]
    assert table(page, generate, f"side_by_side {FOLDERS} rows=tag to=best") == [
        "| method | digits, lite0 | digits, rn18 | to best |",
        "| best | 91.3 ± 1.5 | 91.3 ± 1.5 |  |",
        "| no prompt | 89.3 ± 1.2 | 89.3 ± 1.2 | -2.0 ± 0.9 |",
    ]


def test_a_table_of_one_number_of_epochs(page, generate, variants, capsys):
    variants("", (90.0, 91.0, 93.0))
    variants("", (95.0, 95.0, 95.0), epochs=24)
    assert table(page, generate, f"side_by_side {FOLDERS} epochs=24")[1:] == ["| SMM ilm | 95.0 ± 0.0 | 95.0 ± 0.0 |"]
    page[0].write_text(f"<!-- generated: side_by_side {FOLDERS} -->\n<!-- end -->\n")
    capsys.readouterr()
    assert generate.main([]) == 2 and "two cards for 'SMM ilm'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (f"differences {FOLDERS}", "to= is missing"),
        (f"side_by_side {FOLDERS} row=tag", "unknown word 'row='"),
        (f"side_by_side {FOLDERS} epochs=9", "no card of so many epochs"),
    ],
)
def test_words_that_make_no_table_end_in_one_line(page, generate, variants, capsys, words, expected):
    variants("", (90.0, 91.0, 93.0))
    page[0].write_text(f"<!-- generated: {words} -->\n<!-- end -->\n")
    capsys.readouterr()
    assert generate.main([]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def shown(how):
    text = "".join(path.read_text() for path in (REPOSITORY / "docs").glob("*.md"))
    words = {word for words in re.findall(rf"<!-- generated: {how} ([^\n]+) -->", text) for word in words.split()}
    return {word for word in words if "=" not in word}


def test_every_card_stands_in_a_document():
    assert shown("cards") | shown("side_by_side") == set(TABLES)


@pytest.mark.parametrize("folder", TABLES)
def test_the_cards_of_a_table_are_whole(folder):
    """They are read, lie where they belong, compare; each is of as many seeds as the others, unless the table says of how many."""
    groups = read_table(RESULTS / folder)
    assert len({tuple(sorted(group.runs)) for group in groups}) == 1 or folder in shown("side_by_side")


def test_a_folder_without_cards_makes_no_table(generate, page, capsys):
    page[0].write_text("<!-- generated: cards digits/rn18/full -->\n<!-- end -->\n")
    assert generate.main([]) == 2
    error = capsys.readouterr().err
    assert "no cards" in error and error.count("\n") == 1


def test_the_head_of_a_recipe_has_the_accuracy_of_its_card(generate, page, tmp_path, capsys):
    recipe = tmp_path / "configs/trainers/SMM/lite0.yaml"
    recipe.parent.mkdir(parents=True)
    shipped = (REPOSITORY / "configs/trainers/SMM/lite0.yaml").read_text()
    recipe.write_text(re.sub("(?<=seeds 1 2 3: ).*", "1.0 +- 0.0.", shipped))
    assert generate.main(["--check"]) == 1 and "lite0.yaml: out of date" in capsys.readouterr().out
    assert generate.main([]) == 0 and "# Test accuracy on digits, seeds 0 1 2: 91.3 +- 1.5.\n" in recipe.read_text()
    assert recipe.read_text().partition("INPUT:")[2] == shipped.partition("INPUT:")[2]
    for body, expected in ((shipped, "91.3 +- 1.5"), (shipped.replace("MAX_EPOCH: 8", "MAX_EPOCH: 9"), "not measured")):
        recipe.write_text(re.sub("# Test accuracy .*\n# Measured .*", "# Accuracy and cost: not measured.", body))
        assert generate.main([]) == 0
        assert expected in recipe.read_text() and ("Measured by the command" in recipe.read_text()) == (body is shipped)
    capsys.readouterr()
    recipe.write_text(shipped.replace("MAX_EPOCH: 8", "MAX_EPOCH: 9"))  # with a figure, which was measured with eight
    assert generate.main(["--check"]) == 2 and "lite0.yaml: no card" in capsys.readouterr().err
    recipe.unlink()
    other = recipe.parents[1] / "VR/lite0.yaml"
    other.parent.mkdir()
    other.write_text((REPOSITORY / "configs/trainers/VR/lite0.yaml").read_text())
    capsys.readouterr()
    assert generate.main(["--check"]) == 2 and "no card in" in capsys.readouterr().err


def test_another_figure_on_a_card_makes_the_document_stale(generate, page, capsys):
    path, card = page
    assert generate.main(["--check"]) == 0
    content = json.loads(card.read_text())
    for run in content["runs"].values():
        run["macro_f1"] = 1.5
    card.write_text(json.dumps(content))
    assert generate.main(["--check"]) == 1
    assert "page.md: out of date" in capsys.readouterr().out
    assert generate.main([]) == 0 and "1.5 ± 0.0" in path.read_text()


def test_a_figure_that_was_edited_in_a_card_is_refused(generate, page, capsys):
    _, card = page
    card.write_text(json.dumps({**json.loads(card.read_text()), "mean": 99.9}))
    assert generate.main(["--check"]) == 2
    error = capsys.readouterr().err
    assert f"{card}: not a card: entry 'mean' is not that of its runs" in error and error.count("\n") == 1
