from dassl_vr.utils.logger import Logger, print_brief


def test_logger_keeps_what_came_before_its_file(tmp_path, capsys):
    with Logger() as log:
        print("early")
        log.open(tmp_path / "run" / "log.txt")
        print("late")
    print("after")
    assert (tmp_path / "run" / "log.txt").read_text() == "early\nlate\n"
    assert capsys.readouterr().out == "early\nlate\nafter\n"


def test_a_line_of_its_own_for_the_screen(tmp_path, capsys):
    print_brief("no log", "so nobody gets this")
    with Logger() as log:
        print_brief("short", "the whole line")
        log.open(tmp_path / "log.txt")
        print_brief("", "for the log alone")
        print("both")
    assert (tmp_path / "log.txt").read_text() == "the whole line\nfor the log alone\nboth\n"
    assert capsys.readouterr().out == "no log\nshort\nboth\n"
