"""Users without a home."""

import os
import pwd
from pathlib import Path

import pytest

from dassl_vr.data.store import store_directories
from dassl_vr.home import cache_directory, expand_home, set_cache_variables
from dassl_vr.utils.errors import ConfigError


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / f"dassl_vr-home-{os.getuid()}"


def test_no_home(homeless, monkeypatch):
    assert store_directories("/data/x", "x") == [Path("/data/x/.image_store"), homeless / ".cache/dassl_vr/image_store/x"]
    assert homeless.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="write the path in full"):
        expand_home("~/data")
    monkeypatch.setenv("HOME", "")  # so that it is as before when the test ends
    monkeypatch.delenv("HOME")
    set_cache_variables()
    assert os.path.expanduser("~/.cache") == str(homeless / ".cache")


def test_a_home_that_is_not_there(homeless, monkeypatch):
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_directory() == homeless / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert cache_directory() == Path("/scratch")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the standard
    assert cache_directory() == homeless / ".cache"


def test_a_directory_of_somebody_else_is_no_home(homeless, tmp_path):
    (tmp_path / "other").mkdir()
    homeless.symlink_to(tmp_path / "other")
    assert cache_directory().parent not in (homeless, tmp_path / "other") and cache_directory().parent.parent == tmp_path


def test_a_user_that_nobody_knows():
    with pytest.raises(ConfigError, match="~nobody-of-that-name"):
        expand_home("~nobody-of-that-name/data")


def test_the_libraries_are_configured_when_the_package_is_imported(tmp_path, run_python):
    code = "import os, pwd; pwd.getpwuid = {}.__getitem__; import dassl_vr; print(os.path.expanduser('~'))"
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    done = run_python("-c", code, env={**environment, "TMPDIR": str(tmp_path)})
    assert done.stdout.strip() == str(tmp_path / f"dassl_vr-home-{os.getuid()}"), done.stderr
