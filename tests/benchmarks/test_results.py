"""Results as JSON, and the report that is made of them."""

from __future__ import annotations

import json

import pytest

from benchmarks.cli import main
from benchmarks.errors import BenchmarkError
from benchmarks.report import report, report_histories, report_variants
from benchmarks.results import Comparison, SoakRecord
from tests.benchmarks.examples import COMPARISON, MACHINE, MODEL, SETTINGS, SOAK

SOAKED = SoakRecord(
    measured_at="2026-11-22T16:00:00+00:00",
    commit=None,
    command="python -m benchmarks soak",
    machine=MACHINE,
    model=MODEL,
    settings=SETTINGS.model_dump(mode="json"),
    soak=SOAK,
)
README = "# Title\n\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\n\nThe end.\n"


@pytest.mark.parametrize("record", [COMPARISON, SOAKED])
def test_results_are_read_as_they_were_written(tmp_path, record):
    record.write(tmp_path / "results" / "a.json")
    assert type(record).read(tmp_path / "results" / "a.json") == record
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"results\.json: cannot be read \(No such file or directory\)"),
        ("{", r"results\.json: not results of this program \(file\)"),
        ('{"measured_at": "x"}', r"results\.json: not results of this program \(commit\)"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BenchmarkError, match=message):
        Comparison.read(path)


def test_the_report_replaces_what_is_between_the_markers(tmp_path):
    readme, chart = tmp_path / "README.md", tmp_path / "results" / "chart.svg"
    readme.write_text(README)
    text = report(COMPARISON, SOAKED, SETTINGS.bars, page=readme, chart=chart)
    assert readme.read_text() == README.replace("old\n", text)
    assert "(results/chart.svg)" in text
    assert "360,000 requests in 3 minutes, 2,000 a second where 4,000 are the most: 0 errors, p99 2.20 ms" in text
    assert "bare ASGI, this scorer" in chart.read_text()


def test_the_same_results_give_the_same_chart(tmp_path):
    drawn = []
    for name in ("a.svg", "b.svg"):
        (tmp_path / "README.md").write_text(README)
        report(COMPARISON, None, SETTINGS.bars, page=tmp_path / "README.md", chart=tmp_path / name)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("readme", ["# Title\n", "<!-- /benchmarks -->\n<!-- benchmarks -->\n"])
def test_without_markers_nothing_is_written(tmp_path, capsys, readme):
    COMPARISON.write(tmp_path / "comparison.json")
    (tmp_path / "README.md").write_text(readme)
    places = {"comparison": "comparison.json", "soak": "soak.json", "tables": "README.md", "chart": "chart.svg"}
    options = [word for name, file in places.items() for word in (f"--{name}", str(tmp_path / file))]
    assert main(["report", *options]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/README.md: the markers <!-- benchmarks --> and <!-- /benchmarks --> are missing\n"
    )
    assert (tmp_path / "README.md").read_text() == readme
    assert not (tmp_path / "chart.svg").exists()


def test_the_variants_go_between_the_markers_of_their_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- variants -->\nold\n<!-- /variants -->\nafter\n")
    text = report_variants(COMPARISON, page)
    assert page.read_text() == f"before\n<!-- variants -->\n{text}<!-- /variants -->\nafter\n"
    assert all(peer.title in text for peer in COMPARISON.peers if peer.rounds[0].closed)


def test_the_tables_of_histories_go_between_their_markers_where_there_are_results(tmp_path):
    page, head = tmp_path / "page.md", {"measured_at": "2026-11-29T09:00:00", "cores": 2, "load_average": 0.5}
    page.write_text("<!-- look-ups -->\nold\n<!-- /look-ups -->\n<!-- materialize -->\nold\n<!-- /materialize -->\n")
    looked = {**head, "command": "c", "timings": [{"what": "a look-up", "calls": 2000, "median_us": 9.3, "p99_us": 17}]}
    (tmp_path / "look_ups.json").write_text(json.dumps(looked))
    said = report_histories(tmp_path / "look_ups.json", tmp_path / "none.json", page)
    assert "| a look-up | 2,000 | 9.30 | 17.0 |" in said
    assert "old\n<!-- /materialize -->" in page.read_text()
    cost = {"what": "SQLite", "clients": 5, "rows": 60, "seconds": 2.5, "cpu_seconds": 2, "peak_mb": 900}
    (tmp_path / "rolled_up.json").write_text(json.dumps({**head, "command": "d", "rolled_up": [cost]}))
    said += report_histories(tmp_path / "none.json", tmp_path / "rolled_up.json", page)
    assert "Measured on 2026-11-29 by `d`: 2 cores, load average 0.5 at the end." in said
    assert "| 5 | 60 | SQLite | 2.50 | 2.00 | 900 |" in said
    assert all(line in page.read_text() for line in said.splitlines())
    assert "old" not in page.read_text()
