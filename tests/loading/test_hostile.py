"""Files that somebody has edited, writers that meet, and names that are meant to do harm."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from perfkit.errors import BaselineError, ProfileFileError
from perfkit.files import write_whole
from perfkit.loading import Baseline, LearnedProfiles, keeping, reports
from perfkit.loading.evidence import Place, Usage
from tests.loading.findings import finding

PLACE = Place("app:Bin", "app:bins", "0123")
DEEP = "[" * 100_000
LONG_NUMBER = '{"version": ' + "9" * 10_000 + "}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "null",
            "[]",
            "{",
            DEEP,
            LONG_NUMBER,
            '{"version": 1, "known": {"a": 1}}',
            '{"version": 1, "known": [1]}',
        ),
        *('{"version": 2, "known": []}', '{"version": 1}', '{"version": true, "known": "abc"}', "\ud800"),
    ],
)
def test_a_baseline_that_was_edited_is_an_error_that_names_the_file(tmp_path, text):
    """Whatever is in it, and never one of `json`."""
    file = tmp_path / "known.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(BaselineError, match=r"known\.json"):
        Baseline.read(file)


def test_a_file_without_end_is_not_read_to_its_end(monkeypatch, tmp_path):
    """Of neither kind."""
    endless = tmp_path / "endless.json"
    with endless.open("wb") as out:
        out.truncate(40 * 1024 * 1024)

    with pytest.raises(BaselineError, match="has more than"):
        Baseline.read(endless)
    with pytest.raises(ProfileFileError, match="has more than"):
        keeping.read(endless)


@pytest.mark.parametrize("text", ["null", "[]", DEEP, LONG_NUMBER, '{"version": 1, "profiles": [3]}'])
def test_learned_profiles_that_were_edited_are_too(tmp_path, text):
    """The same holds for them."""
    file = tmp_path / "learned.json"
    file.write_text(text)

    with pytest.raises(ProfileFileError):
        keeping.read(file)


def test_writers_that_meet_lose_nothing_of_each_other(tmp_path):
    """Four of them add to one file, twenty times each."""
    file = tmp_path / "learned.json"

    def work() -> None:
        learned = LearnedProfiles(file)
        usage = learned._learner.book.setdefault(PLACE, Usage())
        for _ in range(20):
            usage.runs += 1
            learned.save()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert keeping.read(file)[PLACE].runs == 80
    assert [each.name for each in tmp_path.iterdir()] == ["learned.json"]


def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_any(tmp_path, monkeypatch):
    """Without a look at the mask of the process, which would change it for all threads."""
    monkeypatch.setattr(os, "umask", None)
    private, new, plain = tmp_path / "private.json", tmp_path / "new.json", tmp_path / "plain"
    private.touch(0o600)
    plain.touch()

    write_whole(private, json.dumps([]))
    write_whole(new, "")

    assert [stat.S_IMODE(each.stat().st_mode) for each in (private, new)] == [0o600, stat.S_IMODE(plain.stat().st_mode)]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    """The old text stays, and no other file is there."""
    file = tmp_path / "known.json"
    file.write_text("old")

    with pytest.raises(UnicodeEncodeError):
        write_whole(Path(file), "\ud800")

    assert (file.read_text(), [each.name for each in tmp_path.iterdir()]) == ("old", ["known.json"])


def test_no_name_of_the_application_begins_a_line_of_its_own(caplog):
    """Nor colours a terminal: classes, tables and functions may be called anything."""
    evil = "Evil\r\nSet-Cookie: x\x1b[31m\u2028"
    bad = finding(path=f"{evil}.bins", sql=f'SELECT "{evil}"', fix=".options(x)", detail=evil)
    plain = finding(path="Evil.bins", sql="SELECT", fix=".options(x)", detail="detail")

    reports.log([bad])

    assert len(str(bad).splitlines()) == len(str(plain).splitlines())
    assert "\x1b" not in str(bad)
    assert len(caplog.messages[0].splitlines()) == 1
    assert "Evil\\r\\nSet-Cookie: x\\x1b[31m\\u2028.bins" in caplog.messages[0]
