import sys

from dassl_vr.utils.modules import modules_in


def test_every_file_of_a_package_is_found(tmp_path, monkeypatch):
    package = tmp_path / "found_by_itself"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("later", "earlier", "_helper"):
        (package / f"{name}.py").write_text(f"NAME = '{name}'\n")
    monkeypatch.syspath_prepend(tmp_path)
    modules = modules_in("found_by_itself", [str(package)])
    assert [module.NAME for module in modules] == ["earlier", "later"]
    for name in [name for name in sys.modules if name.startswith("found_by_itself")]:
        del sys.modules[name]
