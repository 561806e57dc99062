"""A fit on several machines, here two processes on the loopback: the same trees, all rows, lost ranks, restarts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.commandline import Progress
from jobs.output import write_json
from scoring.artefact import Artefact
from tests.home_credit import write_bare_portfolio
from training.errors import DataError, FleetError
from training.fleet import Fleet, fit_fleet
from training.registry.registry import artefact_folder, download, find
from training.registry.tracking import connect
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "several-machines.md"
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six thousand generated clients in four Parquet parts."""
    from configs.portfolios.home_credit.generator.dataset import synthesize

    drawn, folder = tmp_path_factory.mktemp("drawn") / "data", tmp_path_factory.mktemp("parts")
    synthesize(drawn, clients=6_000, seed=5, file_format="parquet", tables="applications")
    table = pq.read_table(drawn / "application_train.parquet")
    for number in range(4):
        pq.write_table(table.slice(number * 1_500, 1_500), folder / f"part-{number}.parquet")
    return folder


@pytest.fixture(scope="module")
def small(settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory) -> TrainingSettings:
    """Settings of few trees, over which the portfolio lays nothing."""
    values = settings.model_dump(mode="json") | {
        "portfolio": str(write_bare_portfolio(tmp_path_factory.mktemp("bare")))
    }
    values["model"] |= {"max_trees": 30, "threads": 1, "min_outcomes_per_fold": 12}
    values["tracking"]["model"] = "fleet_model"
    return TrainingSettings.model_validate(values)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def machines(count: int = 2) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in free_ports(count))


@contextmanager
def running(
    data: Path, settings: TrainingSettings, listed: str, rank: int, shared: Path, *options: str
) -> Iterator[subprocess.Popen[str]]:
    """A rank in a process of its own, by the command."""
    file = shared.parent / "training.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [sys.executable, "-m", "training", "run", "--data", data, "--machines", listed, "--rank", str(rank)]
    process = subprocess.Popen(
        [*command, "--shared", shared, "--settings", file, *options],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def test_the_rehearsal_of_the_documentation_fits_one_model_on_all_rows(
    parts: Path, small: TrainingSettings, shared: Path
) -> None:
    file = shared.parent / "training.yaml"
    file.write_text(yaml.safe_dump(small.model_dump(mode="json")))
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    _, _, commands = block.partition("mkdir -p data/shared\n")
    first, second = free_ports(2)
    said = {"data/rehearsal": str(parts), "data/shared": str(shared), "12400": str(first), "12401": str(second),
            "rank-1.log": str(shared.parent / "rank-1.log"), ".venv/bin/python": sys.executable,
            "training run": f"training run --settings {file}"}  # fmt: skip
    for word, instead in said.items():
        assert word in commands
        commands = commands.replace(word, instead)
    # MLflow keeps the tracking of the last test in the environment, where the commands would find it.
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        ["bash", "-c", commands], cwd=ROOT, env=environment, text=True, capture_output=True, check=True, timeout=600
    )
    pattern = r"^rank (\d) fitted 2,400 of 6,000 rows: (\d+) trees, ([0-9a-f]{12})$"
    lines = done.stdout + (shared.parent / "rank-1.log").read_text()
    (zero, *ours), (one, *theirs) = re.findall(pattern, lines, flags=re.MULTILINE)
    assert (zero, one, ours) == ("0", "1", theirs)
    assert re.search(r"^800 applications, \d+ defaults; out of fold", lines, flags=re.MULTILINE)
    assert not list(shared.glob("*/applications-*")), "applications were left in the shared folder"

    connect(small.tracking)
    registered = find("fleet_model", "1")
    artefact = Artefact.read(artefact_folder(download(registered, shared), registered))
    assert artefact.lineage["data"]["rows"] == 6_000
    assert hashlib.sha256(artefact.model_text.encode()).hexdigest().startswith(ours[1])
    assert "127.0.0.1" not in artefact.model_text


def test_a_killed_rank_ends_the_others_and_a_restart_goes_on(
    parts: Path, small: TrainingSettings, shared: Path
) -> None:
    long = small.model_copy(update={"model": small.model.model_copy(update={"max_trees": 100})})
    listed, options = machines(), ("--save-every", "5", "--lost-after", "4", "--no-promote")
    saved = shared / "trees.json"
    with (
        running(parts, long, listed, 0, shared, *options) as first,
        running(parts, long, listed, 1, shared, *options) as second,
    ):
        while not saved.exists():
            assert (first.poll(), second.poll()) == (None, None)
            time.sleep(0.01)
        second.send_signal(signal.SIGKILL)
        _, errors = first.communicate(timeout=300)
    assert first.returncode == 1
    assert errors.splitlines()[-1] == (
        "error: rank 1 was lost: no sign of it for 4 s; "
        "start all ranks again: the fit goes on from the trees that are saved"
    )
    kept = lgb.Booster(model_str=json.loads(saved.read_text())["trees"]).dump_model()["tree_info"]
    assert 5 <= len(kept) < 100

    listed = machines()
    with running(parts, long, listed, 1, shared, *options) as second:
        fit = fit_fleet(parts, long, Fleet.of(listed, 0, shared), QUIET)
        second.communicate(timeout=300)
    assert second.returncode == 0
    assert lgb.Booster(model_str=fit.model_text).dump_model()["tree_info"][:5] == kept[:5]
    ended = json.loads(saved.read_text())
    assert ended["finished"]
    assert fit.trees == ended["best"]
    assert lgb.Booster(model_str=ended["trees"]).num_trees() > len(kept)


def test_ranks_that_see_other_rows_end_before_the_fit(
    parts: Path, small: TrainingSettings, shared: Path, tmp_path: Path
) -> None:
    fewer = tmp_path / "parts"
    fewer.mkdir()
    for path in sorted(parts.iterdir())[:3]:
        os.link(path, fewer / path.name)
    listed = machines()
    with running(fewer, small, listed, 1, shared) as other:
        with pytest.raises(FleetError, match="rank 1 sees 4,500 rows, and rank 0 6,000"):
            fit_fleet(parts, small, Fleet.of(listed, 0, shared), QUIET)
        _, errors = other.communicate(timeout=300)
    assert other.returncode == 1
    assert "rank 1 sees 4,500 rows, and rank 0 6,000" in errors.splitlines()[-1]


def test_an_applicant_of_two_ranks_is_refused(
    small: TrainingSettings, parts: Path, shared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("part-0.parquet", "part-1.parquet"):
        os.link(parts / "part-0.parquet", folder / name)
    listed = machines()
    with running(folder, small, listed, 1, shared) as other:
        with pytest.raises(DataError, match="an identifier is in the parts of two ranks"):
            fit_fleet(folder, small, Fleet.of(listed, 0, shared), QUIET)
        other.communicate(timeout=300)
    assert other.returncode == 1


def test_a_fit_goes_on_from_its_saved_trees(parts: Path, small: TrainingSettings, shared: Path) -> None:
    alone = Fleet.of("127.0.0.1:1", 0, shared)
    whole = fit_fleet(parts, small, alone, QUIET)
    first = [pq.read_table(path)["SK_ID_CURR"].to_numpy() for path in sorted(parts.iterdir())]
    assert [int(np.isin(whole.judged.ids, ids).sum()) for ids in first] == [200, 200, 200, 200]
    assert not np.isin(whole.judged.ids, whole.sample.ids).any()
    state = json.loads((shared / "trees.json").read_text())
    trees = lgb.Booster(model_str=state["trees"])
    write_json(
        shared / "trees.json",
        state | {"trees": trees.model_to_string(num_iteration=10), "best": 10, "loss": 1.0, "finished": False},
    )
    further = fit_fleet(parts, small, alone, QUIET)
    infos = [lgb.Booster(model_str=fit.model_text).dump_model()["tree_info"] for fit in (whole, further)]
    assert infos[0][:10] == infos[1][:10]
    assert further.trees > 10
    assert infos[0][10:] != infos[1][10:], "the further trees draw other features than the first ones"


def test_trees_of_another_fit_are_refused(parts: Path, small: TrainingSettings, shared: Path) -> None:
    alone = Fleet.of("127.0.0.1:1", 0, shared)
    write_json(shared / "trees.json", {"plan": {"rows": "7"}, "best": 1, "loss": 1.0, "finished": False, "trees": ""})
    with pytest.raises(FleetError, match="holds the trees of other rows: give an empty folder"):
        fit_fleet(parts, small, alone, QUIET)


@pytest.mark.parametrize(
    ("listed", "rank", "message"),
    [
        ("one", 0, "--machines: must be host:port,host:port, not one"),
        ("one:1,one:1", 0, "--machines: names a machine twice"),
        ("one:1,two:99999", 0, "--machines: must be host:port,host:port, not two:99999"),
        ("one:1,two:1", 2, "--rank: must be 0 to 1, or JOB_COMPLETION_INDEX must hold it"),
        ("one:1,two:1", None, "--rank: must be 0 to 1, or JOB_COMPLETION_INDEX must hold it"),
    ],
)
def test_options_that_describe_no_fleet(listed: str, rank: int | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(FleetError) as caught:
        Fleet.of(listed, rank, tmp_path)
    assert str(caught.value) == message


def test_csv_and_too_few_parts_are_refused(generated: Path, small: TrainingSettings, shared: Path, parts: Path) -> None:
    with pytest.raises(FleetError, match="several machines read Parquet"):
        fit_fleet(generated, small, Fleet.of("127.0.0.1:1", 0, shared), QUIET)
    with pytest.raises(FleetError, match="1 parts are too few for 2 machines"):
        fit_fleet(parts / "part-0.parquet", small, Fleet.of("a:1,b:1", 0, shared), QUIET)
