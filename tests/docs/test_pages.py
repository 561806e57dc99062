"""The pages of the site: none is missing in the navigation, no link leads nowhere, and made pages have everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docs.commands import actions, help_text
from docs.metrics import metrics_in
from docs.pages import generated_pages, write_pages
from features.portfolio import Portfolio

ROOT = Path(__file__).resolve().parent.parent.parent
WRITTEN = sorted((ROOT / "docs").rglob("*.md"))
LINKING = [ROOT / "README.md", ROOT / "benchmarks/README.md", *WRITTEN]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

# runpy warns of a command whose module another test of this process has imported, such as deploy.observability's.
pytestmark = pytest.mark.filterwarnings(r"ignore:.*found in sys\.modules after import of package:RuntimeWarning")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return generated_pages()


def in_navigation(entries: list[dict[str, object]]) -> set[str]:
    """The pages that the navigation leads to."""
    found: set[str] = set()
    for entry in entries:
        for target in entry.values():
            found |= in_navigation(target) if isinstance(target, list) else {str(target)}
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_navigation(made: dict[str, str]) -> None:
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in WRITTEN}
    pages |= {f"reference/{name}" for name in made if not name.startswith("python/")} | {"reference/python/index.md"}
    assert in_navigation(SITE["nav"]) == pages | {"benchmarks/README.md"}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path, made: dict[str, str]) -> None:
    generated = {ROOT / "docs/reference" / name for name in made}
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if re.match(r"https?:", link) or target in generated:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_links_only_to_what_is_in_the_repository() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text())
    assert [link for link in links if not link.startswith("https:") and not (ROOT / link).exists()] == []


def test_the_benchmarks_are_linked_within_the_site(tmp_path: Path) -> None:
    write_pages(tmp_path / "site")
    assert "](benchmarks/README.md)" in (tmp_path / "site/index.md").read_text()
    assert "](../benchmarks/README.md)" in (tmp_path / "site/explanation/results.md").read_text()
    assert "](../explanation/serving.md)" in (tmp_path / "site/benchmarks/README.md").read_text()
    assert (tmp_path / "site/pictures/flow.svg").read_bytes() == (ROOT / "docs/pictures/flow.svg").read_bytes()


def test_every_metric_of_a_rule_is_on_the_page_of_metrics(made: dict[str, str]) -> None:
    known = set(re.findall(r"^\| `(\w+)`", made["metrics.md"], flags=re.MULTILINE))
    files = [ROOT / "deploy/prometheus/alerting.rules.yml", ROOT / "deploy/prometheus/recording.rules.yml"]
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    words = {word for group in groups for rule in group["rules"] for word in re.findall(r"[\w:]+", rule["expr"])}
    named = {re.sub(r"_(?:bucket|sum|count)$", "", word) for word in words if word.startswith("credit_scoring_")}
    recorded = {word for word in named if ":" in word}
    assert named - recorded - known == set()
    assert len(named - recorded) > 15


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('Counter("a_total", "A")', {"a_total": ("counter", "A")}),
        ('X = "n"\nGauge("a", "A", namespace=X)', {"n_a": ("gauge", "A")}),
        ('def f(name, text):\n    Gauge(f"a_{name}", text)\nf("b", "B")', {"a_b": ("gauge", "B")}),
        ('for n, t, v in (("b", "B", 1), ("c", "C", 2)):\n    GaugeMetricFamily(f"a_{n}", t, value=v)',
         {"a_b": ("gauge", "B"), "a_c": ("gauge", "C")}),
        ('Counter(name for name in names)', {}),
        ('Gauge(name, "A")', {}),
    ],
)  # fmt: skip
def test_metrics_are_found_however_they_are_made(source: str, found: dict[str, tuple[str, str]]) -> None:
    assert metrics_in(source) == found


def test_every_alert_is_on_the_page_of_alerts(made: dict[str, str]) -> None:
    rules = (ROOT / "deploy/prometheus/alerting.rules.yml").read_text()
    named = set(re.findall(r"^\| \[(\w+)\]", made["alerts.md"], flags=re.MULTILINE))
    assert named == set(re.findall(r"alert: (\w+)", rules))


def test_the_page_of_commands_has_the_commands_below_commands(made: dict[str, str]) -> None:
    titles = set(re.findall(r"^##+ (.*)$", made["commands.md"], flags=re.MULTILINE))
    assert titles >= {
        "python -m training",
        "training run",
        "scoring keys create",
        "monitoring close",
        "deploy.image build",
    }
    assert "Usage: python -m training run" in made["commands.md"]


def test_only_commands_are_taken_for_commands() -> None:
    assert actions(help_text("scoring", "keys")) == ["create", "revoke", "list"]
    assert actions(help_text("scoring", "batch")) == []


def test_the_page_of_http_has_routes_and_the_columns_of_an_application(made: dict[str, str]) -> None:
    page = made["http.md"]
    assert "### POST /predict\n" in page
    columns = Portfolio.named_in(ROOT / "configs/training.yaml").schema.stated
    assert [column.name for column in columns if f"| `{column.name}` |" not in page] == []
    assert (
        "| 415 | The body is declared as a media type that is not read | [ProblemDocument](#problemdocument) |" in page
    )
    assert "Header field `Idempotency-Key`: string, length at least 1, length at most 128." in page


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert SITE["theme"]["font"] is False
    assert "extra_javascript" not in SITE


@pytest.mark.parametrize("picture", sorted((ROOT / "docs/pictures").iterdir()), ids=lambda picture: picture.name)
def test_pictures_are_small(picture: Path) -> None:
    assert picture.stat().st_size < 150_000
