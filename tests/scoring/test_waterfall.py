"""A waterfall leads from the base to the margin, says everything in words too, and harms no page that shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray

from features.reasons import Reason
from scoring.model import Calibration
from scoring.policy import DecisionKind
from scoring.reasons import Explanation
from scoring.scorer import Scorer
from scoring.waterfall import PROTECTED, STYLE, Waterfall, WaterfallBar, bars_of
from tests.scoring.conftest import POLICY

SVG = "{http://www.w3.org/2000/svg}"
CALIBRATION = Calibration(slope=2.0, intercept=0.5)
WATERFALL = Waterfall(POLICY, CALIBRATION, "en")


def reason(code: str) -> Reason:
    return Reason(code, (("en", f"Words of {code}"), ("fr", f"Mots de {code}")))


def explained(*added: float, protected: float | None = None, base: float = -1.5) -> Explanation:
    """An explanation with these contributions, of reasons R0, R1 and so on."""
    named: list[tuple[Reason | None, float]] = [(reason(f"R{i}"), one) for i, one in enumerate(added)]
    if protected is not None:
        named.append((None, protected))
    return Explanation("v", base, tuple(sorted(named, key=lambda one: -one[1])), ())


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - it was made here


def drawn(explanation: Explanation, waterfall: Waterfall = WATERFALL, **options: str) -> ET.Element:
    margin = explanation.base + sum(added for _, added in explanation.contributions)
    kind = waterfall.policy.outcomes(waterfall.calibration.probabilities(np.array([margin])))[0]
    return parsed(waterfall.svg(explanation, margin, kind, **options))


def texts(picture: ET.Element) -> list[str]:
    return ["".join(one.itertext()) for one in picture.iter(f"{SVG}text")]


def points(polygon: ET.Element) -> list[list[float]]:
    return [[float(x) for x in pair.split(",")] for pair in polygon.attrib["points"].split()]


def of_class(picture: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in picture.iter() if one.get("class") == name]


def test_bars_lead_from_the_base_to_the_margin() -> None:
    assert bars_of(explained(0.5, -0.25, protected=0.125), "en") == [
        WaterfallBar("Words of R0", -1.5, -1.0),
        WaterfallBar(PROTECTED, -1.0, -0.875),
        WaterfallBar("Not a reason: Words of R1", -0.875, -1.125),
    ]


def test_each_bar_begins_where_the_one_before_ends_and_points_where_it_leads() -> None:
    picture = drawn(explained(0.5, 0.25, -0.125))
    raised, lowered = of_class(picture, "raised")[:-1], of_class(picture, "lowered")[:-1]
    starts_and_tips = [(points(one)[0][0], points(one)[2][0]) for one in (*raised, *lowered)]
    (first, second), (again, third), (back, last) = starts_and_tips
    assert (second, third) == (again, back)
    assert first < second < third
    assert last < third
    base, total = of_class(picture, "mark")
    assert (points(base)[0][0], points(total)[0][0]) == (first, last)


def test_raised_and_lowered_differ_by_more_than_colour() -> None:
    picture = drawn(explained(0.5, -0.25))
    assert [one.get("fill") for one in of_class(picture, "raised")] == [None, None]
    assert [one.get("fill") for one in of_class(picture, "lowered")] == ["url(#waterfall-hatch)"] * 2
    assert {"+0.50", "\N{MINUS SIGN}0.25"} <= set(texts(picture))


def test_beyond_twelve_bars_the_smallest_are_one() -> None:
    added = [round(0.5 - 0.03 * i, 2) for i in range(16)]
    bars = bars_of(explained(*added, protected=0.001), "en")
    assert len(bars) == 13
    assert PROTECTED in [bar.words for bar in bars]
    assert bars[-1].words == "5 other reasons together"
    assert bars[-1].end - bars[-1].start == pytest.approx(sum(added[-5:]))
    assert bars[-1].end == pytest.approx(-1.5 + sum(added) + 0.001)
    assert bars_of(explained(*added[:13]), "en")[-1].words == "One other reason"
    assert len(bars_of(explained(*added[:12]), "en")) == 12


def test_what_adds_nothing_to_speak_of_is_among_the_others() -> None:
    bars = bars_of(explained(0.5, 0.004, -0.003, protected=-0.001), "en")
    assert [bar.words for bar in bars] == ["Words of R0", PROTECTED, "2 other reasons together"]


def test_a_number_stands_before_its_bar_where_there_is_no_room_behind_it() -> None:
    picture = drawn(explained(2.0, 0.5))
    first, second = of_class(picture, "raised")[:2]
    [last] = of_class(picture, "value end")
    assert last.text == "+0.50"
    assert float(last.attrib["x"]) == points(second)[0][0] - 5
    assert [one.text for one in of_class(picture, "value")][:1] == ["+2.00"]
    assert float(of_class(picture, "value")[0].attrib["x"]) == points(first)[2][0] + 5
    assert ".waterfall .end { text-anchor: end; } .waterfall .middle { text-anchor: middle; }" in STYLE


def test_lines_stand_at_the_margins_of_the_refer_band() -> None:
    picture = drawn(explained(0.5, -0.25))
    scale = {"".join(one.itertext()): float(one.attrib["x"]) for one in of_class(picture, "middle")}
    ticks = sorted((float(text.replace("\N{MINUS SIGN}", "-")), x) for text, x in scale.items())
    (low, left), (high, right) = ticks[0], ticks[-1]
    expected = [left + (right - left) * (CALIBRATION.margin(end) - low) / (high - low) for end in (0.07, 0.09)]
    assert [float(one.attrib["x1"]) for one in of_class(picture, "limit")] == pytest.approx(expected, abs=0.3)


def test_a_margin_is_that_of_its_pd() -> None:
    margins = np.array([CALIBRATION.margin(end) for end in (0.001, 0.07, 0.5, 0.999)])
    assert CALIBRATION.probabilities(margins) == pytest.approx([0.001, 0.07, 0.5, 0.999])


@pytest.mark.parametrize(
    ("ends", "lines", "shaded", "told"),
    [
        ((0.07, 0.09), 2, 1, "A person decides from PD 7 % to 9 % (shaded)."),
        ((0.08, 0.08), 1, 0, "Declined from a PD of 8 % on."),
        ((0.0, 1.0), 0, 1, "A person decides from PD below 0.001 % to 100 % (shaded)."),
    ],
)
def test_the_band_is_drawn_as_the_policy_has_it(ends: tuple[float, float], lines: int, shaded: int, told: str) -> None:
    policy = replace(POLICY, refer_from=ends[0], refer_to=ends[1])
    picture = drawn(explained(0.5), Waterfall(policy, CALIBRATION, "en"))
    assert (len(of_class(picture, "limit")), len(of_class(picture, "band"))) == (lines, shaded)
    assert told in texts(picture)


def test_the_axis_gives_a_pd_to_each_log_odds() -> None:
    picture = drawn(explained(0.5, -0.25))
    ticks = [float("".join(one.itertext()).replace("\N{MINUS SIGN}", "-")) for one in of_class(picture, "middle")]
    pds = ["".join(one.itertext()) for one in of_class(picture, "soft middle")]
    assert len(ticks) >= 2
    assert pds == [f"{100 * pd:.3g} %" for pd in CALIBRATION.probabilities(np.array(ticks))]


def test_a_screen_reader_is_told_what_is_drawn() -> None:
    picture = drawn(explained(0.5, -0.25))
    title, description = picture.find(f"{SVG}title"), picture.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert picture.attrib["aria-labelledby"] == f"{title.attrib['id']} {description.attrib['id']}"
    assert (picture.attrib["role"], title.text) == ("img", "Decline: PD 11.9 %")
    assert description.text == (
        "The mean that it is compared with has the log-odds \N{MINUS SIGN}1.50, a PD of 7.59 %."
        " Words of R0: +0.50. Not a reason: Words of R1: \N{MINUS SIGN}0.25."
        " This application has \N{MINUS SIGN}1.25, a PD of 11.9 %."
    )


def test_a_withheld_approval_is_told() -> None:
    picture = parsed(WATERFALL.svg(explained(-0.5), -2.0, DecisionKind.REFER))
    assert {"Refer: PD 2.93 %", "Approval is withheld: too little is known for it."} <= set(texts(picture))


def test_words_are_of_the_language_and_lines_are_wrapped() -> None:
    long = Reason("R9", (("en", "word " * 30), ("fr", "mot " * 30)))
    picture = drawn(Explanation("v", -1.5, ((long, 0.5),), ()), Waterfall(POLICY, CALIBRATION, "fr"))
    told = [text for text in texts(picture) if text.startswith("mot")]
    assert [len(text.split()) for text in told] == [13, 13, 4]


def test_what_it_says_is_escaped_and_nothing_is_loaded() -> None:
    hostile = Reason("R9", (("en", "</svg><script>alert('&\"')</script>"),))
    svg = WATERFALL.svg(Explanation("v", -1.5, ((hostile, 0.5),), ()), -1.0, DecisionKind.DECLINE, metadata="<&]]>\"'")
    picture = parsed(svg)
    kinds = {one.tag.removeprefix(SVG) for one in picture.iter()}
    assert kinds == {
        *("svg", "title", "desc", "metadata", "style", "defs", "pattern", "line", "rect", "text", "polygon"),
    }
    assert picture.findtext(f"{SVG}metadata") == "<&]]>\"'"
    assert "</svg><script>alert('&\"')</script>" in texts(picture)
    assert not re.search(r"href|@import|url\((?!#)|\son\w+=", svg)
    assert [one.text for one in picture.iter(f"{SVG}style")] == [STYLE]


def test_two_pictures_of_a_page_share_no_id() -> None:
    ids = [{one.attrib["id"] for one in drawn(explained(0.5), name=name).iter() if "id" in one.attrib} for name in "ab"]
    assert ids[0].isdisjoint(ids[1])
    assert {one[1:] for one in ids[0]} == {"-title", "-desc", "-hatch"}


def test_every_decision_of_a_model_can_be_drawn(scorer: Scorer, model_matrix: NDArray[np.float64]) -> None:
    assert scorer.explainer is not None
    scores = scorer.score_matrix(model_matrix)
    waterfall = Waterfall(scorer.artefact.policy, scorer.artefact.calibration, "fr")
    for row, explanation in enumerate(scorer.explainer.explain(model_matrix)):
        margin, kind = float(scores.margin[row]), scores.decision[row]
        picture = parsed(waterfall.svg(explanation, margin, kind))
        placed = [float(one.attrib["x"]) for one in picture.iter(f"{SVG}text")]
        assert min(placed) >= 0
        assert max(placed) <= 360
        assert bars_of(explanation, "fr")[-1].end == pytest.approx(margin, abs=1e-9)
