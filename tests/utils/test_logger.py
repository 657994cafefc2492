from dassl_vr.utils.logger import Logger


def test_logger_keeps_what_came_before_its_file(tmp_path, capsys):
    with Logger() as log:
        print("early")
        log.open(tmp_path / "run" / "log.txt")
        print("late")
    print("after")
    assert (tmp_path / "run" / "log.txt").read_text() == "early\nlate\n"
    assert capsys.readouterr().out == "early\nlate\nafter\n"
