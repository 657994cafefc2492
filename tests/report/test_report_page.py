"""`report --format html`: one page with the tables, figures and commands of a report."""

from html.parser import HTMLParser

import pytest

from dassl_vr.cli.report import main
from dassl_vr.report.runs import Group, distinct_names, names_within_tasks


class Page(HTMLParser):
    """What a browser reads: `tags` [(tag, {attribute: value})], `text` of each tag by name."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self._inside = [], {}, []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in self._inside[-1:]:
            self.text.setdefault(tag, []).append(data)


@pytest.fixture
def page_of(tmp_path, capsys):
    def make(*arguments):
        assert main([str(tmp_path / "output"), "--format", "html", *arguments]) == 0
        return Page(capsys.readouterr().out)

    return make


def test_title_table_that_sorts_and_commands(make_run, page_of):
    make_run("SMM", seed=0, command="python train.py --trainer SMM --seed 0")
    make_run("VR", method="full", seed=0)
    page = page_of("--seeds", "0", "1")
    assert page.text["title"] == page.text["h1"] == ["Results on EuroSAT, rn18"]
    assert {"data", "backbone", "epochs", "accuracy %", "missing seeds"} <= set(page.text["button"]), "each sorts its column"
    assert page.text["h2"] == ["Results", "Commands"]
    commands = "".join(page.text["pre"])
    assert "python train.py --trainer SMM --seed 0" in commands
    assert not [tag for tag, attrs in page.tags if tag in ("link", "script") and attrs], "nothing is fetched"


def test_remarks_stand_on_the_page_and_on_the_screen(make_run, page_of, tmp_path, capsys):
    make_run("SMM", seed=0)
    make_run("VR", method="full", seed=0, split_sha256="b" * 64)
    page = page_of()
    assert any("split_sha256 differs" in text for text in page.text["p"]), page.text["p"]
    assert main([str(tmp_path / "output"), "--format", "html"]) == 0
    assert "warning: " in capsys.readouterr().err


def test_names_are_text(make_run, page_of):
    hostile = "<script>alert(1)</script>"
    make_run("SMM", seed=0, dataset=hostile, command=f"python train.py '{hostile}'")
    page = page_of()
    assert hostile in page.text["h1"][0] and hostile in "".join(page.text["pre"]) and hostile in page.text["td"]
    assert [tag for tag, _ in page.tags].count("script") == 1, "the page's own"


def test_figures_have_captions_and_say_what_is_seen(real_runs, tmp_path, capsys):
    output, figures = real_runs["SMM"].parents[1], tmp_path / "figures"
    assert main([str(output), "--format", "html", "--confusion", str(figures)]) == 0
    page = Page(capsys.readouterr().out)
    pictures = [attrs for tag, attrs in page.tags if tag == "img" and attrs.get("src", "").startswith("data:image/png")]
    assert len(pictures) == len(list(figures.glob("*.png"))) > 0
    assert all("Confusion matrix of 10 classes. Most often: " in attrs["alt"] for attrs in pictures)
    assert len(page.text["figcaption"]) == len(pictures)


def test_each_name_says_once_what_the_group_is():
    def group(mapping, tag="default", dataset="digits"):
        return Group("SMM", "smm", dataset, "lite0", mapping, tag)

    groups = [group("ilm"), group("head"), group("ilm", dataset="dtd")]
    assert names_within_tasks(groups) == ["SMM, ilm", "SMM, head", "SMM"]
    assert distinct_names(groups) == ["SMM, ilm, digits", "SMM, head, digits", "SMM, ilm, dtd"]
    assert distinct_names([group("ilm"), group("ilm", "patch4")]) == ["SMM", "SMM, patch4"]
    assert distinct_names([Group("FullFT", "fullft", "digits", "lite0", None, "default"), *groups])[0] == "FullFT, digits"
