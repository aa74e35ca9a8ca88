from __future__ import annotations

from pathlib import Path

from raftkv.lab.logs import follow, read_from, tail


def test_the_tail_is_the_last_lines_and_none_before_the_offset(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\none\ntwo\nthree\n")

    assert tail(log, 2) == ["two", "three"]
    assert tail(log, 10, offset=len("old\n")) == ["one", "two", "three"]
    assert tail(log, 0) == []
    assert tail(tmp_path / "none", 5) == []


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff\xfe!\n")

    assert read_from(log, 0).endswith("!\n")


def test_following_gives_new_whole_lines_of_every_log_in_turn(tmp_path: Path) -> None:
    logs = {name: tmp_path / name for name in ("n1", "n2")}
    logs["n1"].write_text("before\n")
    following = follow(logs)
    with logs["n1"].open("a") as first, logs["n2"].open("a") as second:
        second.write("later\n")
        second.flush()
        assert next(following) == ("n2", "later")
        first.write("half")
        first.flush()
        second.write("more\n")
        second.flush()
        assert next(following) == ("n2", "more")
        first.write(" whole\n")
        first.flush()
        assert next(following) == ("n1", "half whole")
