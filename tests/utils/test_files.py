import pytest

from dassl_vr.utils import kinds
from dassl_vr.utils.errors import DataError
from dassl_vr.utils.files import atomic_write, read_checked_json, read_json, write_json


def test_atomic_write_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as file:
        file.write("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"], "nothing is left behind"


def test_json_round_trip(tmp_path):
    write_json({"name": "Größe", "n": [1, 2.5]}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"name": "Größe", "n": [1, 2.5]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_json_as_editors_and_shells_write_it(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"name": "Größe"}\r\n'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"name": "Größe"}


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe\xff", b"\x80", b"", b"{", b"9" * 5000])
def test_what_is_no_json_is_a_value_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")


def test_json_of_the_user(tmp_path):
    """What is wrong with a file is said in one line, which names the file and the remedy."""
    path, kind = tmp_path / "a.json", kinds.list_of(kinds.COUNT)
    path.write_text("[1, 2]")
    assert read_checked_json(path, "write it again", kind) == [1, 2]
    for content, problem in (("[1,", "not valid JSON"), ('["one"]', "expected"), ("3", "expected")):
        path.write_text(content)
        with pytest.raises(DataError) as caught:
            read_checked_json(path, "write it again", kind, f"numbers {path}")
        message = str(caught.value)
        assert message.startswith(f"numbers {path}: ") and problem in message and message.endswith("; write it again"), message
    assert read_checked_json(path, "write it again") == 3, "any kind"
    path.unlink()
    with pytest.raises(DataError, match=r"a.json: cannot be read \(No such file or directory\); write it again"):
        read_checked_json(path, "write it again", kind)
