"""The decision page in a real browser: by keyboard alone, with every outcome, and what a screen reader is told."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from scoring.keys import Scope
from scoring.policy import DecisionKind
from scoring.store import StoredModel
from tests.browser import PROGRAM, Browser, browsing
from tests.home_credit import EXAMPLE, PORTFOLIO, REQUESTS, columns_of
from tests.keys import Keys
from tests.server import Server, serve_with
from tests.skipped import missing
from training.run import Delivered

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=missing("chromium"))

APPLICATION = EXAMPLE["application"]
DECLINED = {**APPLICATION, "EXT_SOURCE_2": 0.001, "EXT_SOURCE_3": 0.001, "DAYS_EMPLOYED": -10, "AMT_CREDIT": 2e6}
APPROVED = {**APPLICATION, "EXT_SOURCE_1": 0.9, "EXT_SOURCE_2": 0.8, "EXT_SOURCE_3": 0.8, "DAYS_EMPLOYED": -6000}
PICTURES = os.environ.get("PAGE_PICTURES")
"""A folder for pictures of the page, for people to look at."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("keys") / "keys.yaml")
    made.create("desk", Scope.EXPLAIN)
    made.create("shop", Scope.PREDICT)
    return made


@pytest.fixture(scope="module")
def server(delivered: Delivered, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with keys and the page."""
    changes = {"model": delivered.tag, "page": {"enabled": True}}
    with serve_with(tmp_path_factory.mktemp("page"), changes, keys.environment) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(browser: Browser, server: Server) -> Browser:
    """The page, freshly loaded."""
    browser.events.clear()
    return browser.show(1280, 1000).open(f"{server.url}/decide")


def decide(page: Browser, secret: str, application: dict[str, Any]) -> None:
    """Paste an application and ask for its decision, by keyboard alone."""
    page.tab_to("key").type(secret)
    page.tab_to("Fill the form from JSON").press("Enter")
    page.tab_to("paste").type(json.dumps({"client_id": "case-7", "application": application}))
    page.tab_to("fill").press("Enter").tab_to("decide").press("Enter")
    page.until("document.activeElement.id.endsWith('-title')")


def text(page: Browser, element: str) -> str:
    return str(page.evaluate(f"document.getElementById({element!r}).innerText"))


def kept(page: Browser, name: str) -> None:
    """Pictures of the page in both colours and two widths, where somebody wants them."""
    for width, dark in ((1280, False), (320, False), (1280, True), (320, True)) if PICTURES else ():
        page.show(width, 900, dark=dark).picture(Path(PICTURES) / f"{name}-{width}{'-dark' if dark else ''}.png")


def test_a_decline_is_told_with_its_reasons(page: Browser, keys: Keys, server: Server) -> None:
    decide(page, keys.secrets["desk"], DECLINED)
    assert page.focused() == "result-title"
    headers = {"X-API-Key": keys.secrets["desk"]}
    answer = httpx.post(f"{server.url}/explain", json={"application": DECLINED}, headers=headers, timeout=600).json()
    reasons = [f"{one['text']} ({one['code']})" for one in answer["reasons"]]
    assert text(page, "result-title").startswith("Decline: PD ")
    assert text(page, "reasons-title") == "Reasons for the decline"
    assert page.evaluate("[...document.querySelectorAll('#reasons li')].map(one => one.innerText)") == reasons
    assert "A person decides between" in text(page, "meaning")
    assert re.search(r"Request\s+[0-9a-f]{32}", text(page, "figures"))
    assert "case-7" in text(page, "figures")
    missing = page.evaluate("[...document.querySelectorAll('#missing li')].map(one => one.textContent)")
    assert missing == answer["missing_columns"]
    assert page.evaluate("document.querySelector('#waterfall svg').getBoundingClientRect().width") > 200
    kept(page, "decline")


def test_an_approval_is_told(page: Browser, keys: Keys) -> None:
    decide(page, keys.secrets["desk"], APPROVED)
    assert text(page, "result-title").startswith("Approve: PD ")
    assert text(page, "reasons-title") == "What raised the risk most"
    assert "is below that." in text(page, "meaning")
    kept(page, "approve")


def test_a_case_in_the_refer_band_is_the_reader_s_own(page: Browser, keys: Keys, stored: StoredModel) -> None:
    scores = np.linspace(0.02, 0.8, 40)
    grid = [{**APPLICATION, "EXT_SOURCE_2": a, "EXT_SOURCE_3": b} for a in scores.tolist() for b in scores.tolist()]
    found = stored.scorer.score(columns_of([REQUESTS.predict(application=one).application for one in grid]))
    inside = next(one for one, kind in zip(grid, found.decision, strict=True) if kind == DecisionKind.REFER)
    decide(page, keys.secrets["desk"], inside)
    assert text(page, "result-title").startswith("Refer to a person: PD ")
    assert text(page, "meaning").endswith("is in between: this one is yours.")


def test_a_withheld_approval_says_what_is_lacking(page: Browser, keys: Keys, server: Server) -> None:
    application = {**APPROVED, "NAME_INCOME_TYPE": "Astronaut"}
    decide(page, keys.secrets["desk"], application)
    headers = {"X-API-Key": keys.secrets["desk"]}
    answer = httpx.post(f"{server.url}/explain", json={"application": application}, headers=headers, timeout=600).json()
    assert answer["withheld"] != []
    assert text(page, "result-title").startswith("Refer to a person: PD ")
    assert text(page, "meaning") == "The PD alone would approve. A person decides, since too little is known:"
    assert (
        page.evaluate("[...document.querySelectorAll('#withheld li')].map(one => one.innerText)") == answer["withheld"]
    )
    assert text(page, "unknown") == "The model does not know the level that is stated in: NAME_INCOME_TYPE."
    kept(page, "refer")


def test_a_refusal_marks_each_wrong_field_and_leads_to_it(page: Browser, keys: Keys) -> None:
    decide(
        page, keys.secrets["desk"], {**APPLICATION, "AMT_CREDIT": "much", "EXT_SOURCE_1": 7, "AMT_INCOME_TOTAL": None}
    )
    assert page.focused() == "problem-title"
    assert text(page, "problem-title") == "Some values do not fit"
    marked = page.evaluate("[...document.querySelectorAll('[aria-invalid=true]')].map(one => one.dataset.column)")
    assert marked == ["AMT_INCOME_TOTAL", "AMT_CREDIT", "EXT_SOURCE_1"]
    assert "AMT_CREDIT: Input should be a valid number" in text(page, "problem-places")
    assert re.fullmatch(r"[0-9a-f]{32}", text(page, "problem-request"))
    kept(page, "refusal")
    page.press("Tab").press("Enter")
    assert page.evaluate("document.activeElement.dataset.column") in marked
    assert ("textbox", "EXT_SOURCE_1") in page.tree()


@pytest.mark.parametrize(
    ("holder", "title"), [("nobody", "The key is not known"), ("shop", "This key may not do that")]
)
def test_a_wrong_key_is_told_in_plain_words(page: Browser, keys: Keys, holder: str, title: str) -> None:
    decide(page, keys.secrets.get(holder, "wrong"), APPLICATION)
    assert (text(page, "problem-title"), page.evaluate("document.getElementById('result').hidden")) == (title, True)


def test_what_is_no_json_fills_nothing(page: Browser) -> None:
    page.tab_to("Fill the form from JSON").press("Enter").tab_to("paste").type("[1")
    page.tab_to("fill").press("Enter")
    assert text(page, "filled") == "This is not a JSON object. Nothing was filled in."


def test_protected_columns_are_not_on_the_form(page: Browser) -> None:
    names = page.evaluate("[...document.querySelectorAll('[data-column]')].map(one => one.dataset.column)")
    protected = PORTFOLIO.schema.protected(PORTFOLIO.schema.attributes)
    assert protected
    assert sorted(names) == sorted(column.name for column in PORTFOLIO.schema.stated if column.name not in protected)
    required = page.evaluate("[...document.querySelectorAll('fieldset [data-column]')].map(one => one.dataset.column)")
    assert required == names[: len(required)] == ["NAME_CONTRACT_TYPE", "AMT_INCOME_TOTAL", "AMT_CREDIT"]
    page.tab_to("Fill the form from JSON").press("Enter").tab_to("paste").type('{"CODE_GENDER": "F", "AMT_CREDIT": 1}')
    page.tab_to("fill").press("Enter")
    assert text(page, "filled") == ("Columns filled in: 1. Left out, since the form does not have them: CODE_GENDER.")


def test_the_form_by_hand_and_cleared(page: Browser, keys: Keys) -> None:
    page.tab_to("key").type(keys.secrets["desk"])
    page.evaluate("document.querySelector('[data-column=AMT_INCOME_TOTAL]').focus()")
    page.type("180000")
    page.evaluate("document.querySelector('[data-column=AMT_CREDIT]').focus()")
    page.type("450000").press("Enter").until("document.activeElement.id.endsWith('-title')")
    assert text(page, "problem-title") == "Some values do not fit"
    page.evaluate("document.querySelector('[data-column=NAME_CONTRACT_TYPE]').focus()")
    page.press("ArrowDown").tab_to("decide").press(" ").until("document.activeElement.id === 'result-title'")
    page.evaluate("document.querySelector('button[type=reset]').focus()")
    page.press("Enter").until("document.getElementById('result').hidden")
    assert page.evaluate("document.querySelector('[data-column=AMT_CREDIT]').value") == ""
    assert page.evaluate("document.getElementById('key').value") == keys.secrets["desk"]


def test_every_field_has_a_name_and_there_are_landmarks(page: Browser, keys: Keys) -> None:
    decide(page, keys.secrets["desk"], DECLINED)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    tree = page.tree()
    fields = [name for role, name in tree if role in ("textbox", "combobox", "button")]
    assert len(fields) > 100
    assert all(fields)
    assert {"banner", "main", "form", "region", "heading", "image"} <= {role for role, _ in tree}
    [picture] = [name for role, name in tree if role == "image"]
    assert picture.startswith("Decline: PD ")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


CONTRAST = """
(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() && !one.closest("svg")
    && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.map((one) => [getComputedStyle(one).color, behind(one)].map(light).sort((a, b) => b - a))
    .map(([more, less]) => (more + 0.05) / (less + 0.05)).filter((ratio) => ratio < 4.5).length;
})()
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("application", [DECLINED, {**APPLICATION, "AMT_CREDIT": "much"}], ids=["decline", "refusal"])
def test_it_fits_320_pixels_and_can_be_read_in_both_colours(
    page: Browser, keys: Keys, application: dict[str, Any], *, dark: bool
) -> None:
    page.show(320, 640, dark=dark)
    decide(page, keys.secrets["desk"], application)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate(CONTRAST) == 0


def test_it_loads_nothing_keeps_nothing_and_breaks_no_rule_of_its_own(
    page: Browser, keys: Keys, server: Server
) -> None:
    decide(page, keys.secrets["desk"], DECLINED)
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    asked = {
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {f"{server.url}/decide", f"{server.url}/explain"}
    assert [event for event in page.events if event["method"] == "Log.entryAdded"] == []
    assert [event for event in page.events if event["method"] == "Runtime.exceptionThrown"] == []
    style = "getComputedStyle(document.querySelector('#waterfall .title')).fontWeight"
    assert page.evaluate(style) == "600"  # the policy lets the style of the picture in
    blocked = "(() => { const one = document.createElement('script'); one.textContent = 'window.ran = 1';"
    assert page.evaluate(f"{blocked} document.body.append(one); return window.ran ?? 0 }})()") == 0


def test_only_what_is_open_needs_no_key(server: Server, keys: Keys) -> None:
    answer = httpx.get(f"{server.url}/decide", timeout=600)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert "set-cookie" not in answer.headers
    assert httpx.post(f"{server.url}/explain", json=EXAMPLE, timeout=600).status_code == 401
    assert httpx.get(f"{server.url}/", timeout=600).status_code == 401
    assert all(secret not in server.logged for secret in keys.secrets.values())


def test_it_holds_no_figure_of_the_model(server: Server, stored: StoredModel) -> None:
    text = httpx.get(f"{server.url}/decide", timeout=600).text
    policy = stored.scorer.artefact.policy
    assert stored.version not in text
    assert all(f"{figure:.6g}" not in text for figure in (policy.cutoff, policy.refer_from, policy.refer_to))
