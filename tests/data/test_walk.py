"""The one walker of directories: links, companions, and names."""

import os

import pytest

from dassl_vr.data.datasets.walk import folders_in, image_files
from dassl_vr.utils.errors import DataError


@pytest.fixture
def root(tmp_path):
    for name in ("data/ant/1.png", "data/ant/sub/2.JPG", "data/bee/3.png", "data/ant/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


def names(directory, root):
    return [os.path.relpath(path, root) for path in image_files(directory)]


@pytest.mark.parametrize("target", [".", "..", "../ant", "../..", "sub", "/", "sub/../../ant"])
@pytest.mark.parametrize("places", [("ant",), ("ant", "ant/sub"), ("ant", "bee")])
def test_links_that_lead_up_or_round_add_nothing(root, target, places):
    for number in range(2):
        for place in places:
            (root / place / f"link{number}").symlink_to(target, target_is_directory=True)
    assert names(root / "ant", root) == ["ant/1.png", "ant/sub/2.JPG"]
    (root / "again").symlink_to(".", target_is_directory=True)
    (root / "up").symlink_to("..", target_is_directory=True)
    assert [path.name for path in folders_in(root)] == ["ant", "bee"]


def test_a_folder_elsewhere_is_followed_once(root, tmp_path):
    for name in ("1.png", "deep/2.png"):
        (tmp_path / "more" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "more" / name).touch()
    (root / "ant" / "a").symlink_to(tmp_path / "more")
    (root / "ant" / "b").symlink_to(tmp_path / "more" / "deep")  # within what `a` leads to
    (tmp_path / "more" / "round").symlink_to(root / "ant")
    (tmp_path / "more" / "above").symlink_to(root)
    assert names(root / "ant", root) == ["ant/1.png", "ant/a/1.png", "ant/a/deep/2.png", "ant/sub/2.JPG"]


def test_a_file_under_two_names_is_one_image(root):
    (root / "ant" / "0.png").symlink_to("1.png")
    (root / "ant" / "9.png").symlink_to("../bee/3.png")
    (root / "ant" / "sub" / "9.png").symlink_to("../../bee/3.png")
    assert names(root / "ant", root) == ["ant/1.png", "ant/9.png", "ant/sub/2.JPG"]


@pytest.mark.parametrize("link", ["missing.png", "itself.png"])
def test_a_broken_link_stays_for_the_reader_to_name(root, link):
    (root / "ant" / link).symlink_to("itself.png" if link == "itself.png" else "nowhere.png")
    assert f"ant/{link}" in names(root / "ant", root)


@pytest.mark.parametrize(
    "name", ["@eaDir", "@EADIR", ".AppleDouble", "__MACOSX", ".thumbnails", "#recycle", "$RECYCLE.BIN", "lost+found", ".hidden"]
)
def test_companions_are_no_photographs(root, name):
    for place in (root, root / "ant", root / "ant" / "sub"):
        (place / name / "1.png").mkdir(parents=True)  # as on a Synology: a folder called like the photograph
        (place / name / "1.png" / "SYNOPHOTO_THUMB_M.jpg").touch()
    (root / "ant" / "._1.png").touch()
    assert names(root / "ant", root) == ["ant/1.png", "ant/sub/2.JPG"]
    assert [path.name for path in folders_in(root)] == ["ant", "bee"]


def test_names_of_any_bytes_stay_paths(root):
    open(os.fsencode(root) + b"/ant/caf\xe9.png", "wb").close()
    assert any(os.fsencode(path).endswith(b"caf\xe9.png") for path in image_files(root / "ant"))


def test_what_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(DataError, match="none: cannot be listed"):
        image_files(tmp_path / "none")
