"""Names of runs in TensorBoard."""

from dassl_vr.report.board import link_runs, main


def test_runs_are_linked_by_what_they_are(tmp_path):
    for path in ("digits/SMM/lite0/default/seed1", "digits/VR-full/lite0/short/seed1"):
        (tmp_path / "output" / path / "tensorboard").mkdir(parents=True)
    links = tmp_path / "links"
    assert link_runs(tmp_path / "output", links) == 2
    (tmp_path / "output/digits/CoOp/tiny_clip/default/seed0/tensorboard").mkdir(parents=True)
    assert link_runs(tmp_path / "output", links) == 3, "those that begin later come by themselves"
    found = sorted(str(path.relative_to(links)) for path in links.rglob("*") if path.is_symlink())
    assert found == ["digits/CoOp/tiny_clip/seed0", "digits/SMM/lite0/seed1", "digits/VR-full/lite0/short/seed1"]
    assert (links / found[1]).resolve() == tmp_path / "output/digits/SMM/lite0/default/seed1/tensorboard"


def test_no_such_directory(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert "no such directory" in capsys.readouterr().err
