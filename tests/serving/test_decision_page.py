"""The decision page is made from any declaration, and says nothing that it should not."""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from features.portfolio import Portfolio
from scoring.waterfall import STYLE
from serving.pages import DecisionPage
from tests.home_credit import PORTFOLIO, PROTECTED
from tests.server import ROOT

DECLARED = {
    "name": "loans",
    "outcome": {"column": "bad", "bad": 1, "good": 0},
    "columns": {
        "<b>&": {"kind": "category", "levels": ['"a"', "<i>"], "required": True, "description": "A <level>"},
        "opened": {"kind": "date", "description": "Day of opening"},
        "balance": {"kind": "number", "unit": "euro", "description": "Balance"},
        "owner": {"kind": "flag", "description": "Owns a home"},
        "years": {"kind": "count", "unit": "years", "low": 0, "high": 99, "description": "Age", "protected": "age"},
    },
    "features": {},
}


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    (tmp_path / "portfolio.yaml").write_text(yaml.safe_dump(DECLARED, sort_keys=False))
    return Portfolio.load(tmp_path)


def page(portfolio: Portfolio, read: tuple[str, ...] = (), *, keyed: bool = True) -> DecisionPage:
    return DecisionPage(portfolio, read, language="en", keyed=keyed)


def columns(made: DecisionPage) -> list[str]:
    return re.findall(r'data-column="([^"]*)"', made.html)


def test_required_columns_come_first_and_the_others_are_folded(portfolio: Portfolio) -> None:
    html = page(portfolio).html
    assert columns(page(portfolio)) == ["&lt;b&gt;&amp;", "opened", "balance", "owner"]
    assert html.index("</fieldset>") < html.index("<summary>Other columns") < html.index('data-column="opened"')


def test_names_levels_and_descriptions_are_escaped(portfolio: Portfolio) -> None:
    html = page(portfolio).html
    assert '<option value="&quot;a&quot;">&quot;a&quot;</option><option value="&lt;i&gt;">&lt;i&gt;</option>' in html
    assert ">A &lt;level&gt;</p>" in html


def test_each_kind_has_its_control_and_its_hint(portfolio: Portfolio) -> None:
    html = page(portfolio, ("years",)).html
    assert re.search(r'<input type="date" id="c1"', html)
    assert re.search(r'<input type="text" id="c2".*data-kind="number"', html)
    assert re.search(r'<select id="c3".*<option value="0">0</option><option value="1">1</option>', html)
    assert re.search(r'<input type="text" inputmode="decimal" id="c4"', html)
    assert ">Balance (euro)</p>" in html
    assert ">Age (years, between 0 and 99)</p>" in html


def test_a_protected_column_is_on_the_form_only_if_the_model_reads_it(portfolio: Portfolio) -> None:
    assert "years" not in columns(page(portfolio))
    assert "years" in columns(page(portfolio, ("years",)))
    assert not PORTFOLIO.schema.protected(PROTECTED) & set(columns(page(PORTFOLIO)))


def test_columns_are_grouped_as_the_reasons_are() -> None:
    html = page(PORTFOLIO).html
    titles = re.findall(r"<summary>([^<]+) <span", html)
    assert titles[:3] == ["External scores", "Credit amount", "Income"]
    assert "Kind of credit" not in titles  # its only column is required
    inside = re.search(r"<summary>External scores.*?</details>", html, re.DOTALL)
    assert inside is not None
    assert re.findall(r'data-column="(\w+)"', inside[0]) == ["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"]


def test_a_key_is_asked_for_only_where_one_is_needed(portfolio: Portfolio) -> None:
    assert ['id="key"' in page(portfolio, keyed=keyed).html for keyed in (True, False)] == [True, False]


def test_the_policy_allows_just_what_is_on_the_page(portfolio: Portfolio) -> None:
    made = page(portfolio)
    [script] = re.findall(r"<script>(.*?)</script>", made.html, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", made.html, re.DOTALL)
    hashes = [f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in (script, style, STYLE)]
    assert made.headers["Content-Security-Policy"] == (
        f"default-src 'none'; script-src {hashes[0]}; style-src {hashes[1]} {hashes[2]}; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert not re.search(r"https?://|\bstyle=|\son\w+=|innerHTML|localStorage|sessionStorage|cookie", made.html)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed: install it")
def test_a_share_is_shown_as_a_percentage_of_three_figures() -> None:
    script = (ROOT / "serving/page/decide.js").read_text()
    found = re.search(r"^const percent = .*$", script, re.MULTILINE)
    assert found is not None
    shown = f"{found[0]} console.log([1, 0.9997, 0.1, 0.00123, 0].map(percent).join())"
    done = subprocess.run(["node", "-e", shown], capture_output=True, text=True, check=True)
    assert done.stdout == "100 %,100 %,10 %,0.123 %,0 %\n"


def test_it_is_off_until_somebody_turns_it_on() -> None:
    assert yaml.safe_load((ROOT / "configs/serving.yaml").read_text())["page"] == {"enabled": False}


def test_its_files_are_in_the_bento() -> None:
    assert "/serving/page/*" in yaml.safe_load((ROOT / "bentofile.yaml").read_text())["include"]
    assert {one.name for one in (ROOT / "serving/page").iterdir()} == {"decide.css", "decide.html", "decide.js"}
