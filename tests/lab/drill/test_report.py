"""The page needs nothing but itself, and says what was found."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

from raftkv.lab.drill.options import Options
from raftkv.lab.drill.picture import picture
from raftkv.lab.drill.report import as_html, as_json
from tests.lab.drill.rounds import TARGET, good_round

OPTIONS = Options(faults=("crash",), rounds=2)
SVG = "{http://www.w3.org/2000/svg}"


def test_the_page_loads_nothing() -> None:
    page = as_html(OPTIONS, TARGET, [good_round()], 2)

    assert not re.findall(r'(?:src|href|@import|url\()\s*=?\s*["\']?', page)
    assert "<script" not in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}


def test_the_page_says_how_each_round_ended() -> None:
    bad = good_round(number=2, problems=["3 acknowledged writes are lost"], lost=["#7 put k=v"])

    page = as_html(OPTIONS, TARGET, [good_round(), bad], 2)

    assert "not every round passed" in page
    assert page.count("<svg") == 2
    assert "3 acknowledged writes are lost" in page
    assert "#7 put k=v" in page


def test_what_nodes_and_faults_are_called_is_no_markup() -> None:
    page = as_html(OPTIONS, TARGET, [good_round(did="killed <b>n1</b>", problems=["<script>"])], 2)

    assert "<b>n1" not in page
    assert "<script" not in page


def test_the_picture_is_well_formed_and_marks_the_fault_and_the_new_leader() -> None:
    drawn = ElementTree.fromstring(picture(good_round()))

    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    assert "killed n1" in texts
    assert "n2 leads term 3 (+20 ms)" in texts
    assert len(list(drawn.iter(f"{SVG}polyline"))) == 2
    assert len(list(drawn.iter(f"{SVG}circle"))) == 4


def test_a_round_that_recorded_nothing_has_no_picture() -> None:
    assert picture(good_round(bins=[])) == ""
    assert "Nothing was done" in as_html(OPTIONS, TARGET, [good_round(bins=[], did="", problems=["unreachable"])], 2)


def test_the_json_is_plain_and_says_whether_all_passed() -> None:
    found = json.loads(json.dumps(as_json(OPTIONS, TARGET, [good_round()], 2)))

    assert found["ok"] is False  # One of two rounds.
    assert found["rounds"][0]["write_outage_ms"] == 40.0
    assert found["rounds"][0]["ok"] is True
    assert found["cluster"]["nodes"]["n1"] == "127.0.0.1:1"
