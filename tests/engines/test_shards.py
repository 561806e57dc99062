"""Shards as Kubernetes, Airflow and Databricks start them, with the words and variables of manifest and recipes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.check import FOLDER
from scoring.cli import commands, main
from scoring.engines import Shard
from scoring.scorer import Scorer
from tests.engines.books import IDENTIFIER, Book, decided
from tests.server import ROOT, unmeasured

RUN = "scores-2026-11"
(CRON_JOB,) = yaml.safe_load_all((FOLDER / "base" / "batch-shards.yaml").read_text())
JOB: dict[str, Any] = CRON_JOB["spec"]["jobTemplate"]["spec"]
POD: dict[str, Any] = JOB["template"]["spec"]
Process = subprocess.Popen[str]


def pod(index: int, volume: Path, model: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the variables of the pod of an index, as a kubelet makes them.

    The volume is a folder here. The image holds the model under its default name: here it is named.
    """
    (container,) = POD["containers"]
    told = {"metadata.labels['job-name']": RUN}
    variables = {
        one["name"]: one["value"] if "value" in one else told[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in container["env"]
    }
    (mount,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "batches"]
    words = [word.replace("$(RUN)", variables["RUN"]).replace(mount, str(volume)) for word in container["args"]]
    index_variable = {"JOB_COMPLETION_INDEX": str(index)}
    return [sys.executable, "-m", *words, "--model", str(model)], {**unmeasured(), **variables, **index_variable}


def start(index: int, volume: Path, model: Path, most_bytes: int | None = None) -> Process:
    command, variables = pod(index, volume, model)
    limit = [] if most_bytes is None else ["prlimit", f"--fsize={most_bytes}"]
    return subprocess.Popen([*limit, *command], cwd=ROOT, env=variables, text=True, stdout=-1, stderr=-1)


def test_every_index_knows_how_many_there_are() -> None:
    variables = {one["name"]: one.get("value") for one in POD["containers"][0]["env"]}
    assert JOB["completionMode"] == "Indexed"
    assert variables["JOB_COMPLETIONS"] == str(JOB["completions"])
    assert POD["restartPolicy"] == "Never"  # what backoffLimitPerIndex asks for
    assert JOB["backoffLimitPerIndex"] == 2


def test_an_index_that_fails_is_tried_again_and_the_others_go_on(
    book: Book, folder: Path, scorer: Scorer, tmp_path: Path
) -> None:
    (tmp_path / "input").symlink_to(book.folder)
    pods = {index: start(index, tmp_path, folder, 2_000 if index == 1 else None) for index in range(JOB["completions"])}
    said = {index: process.communicate() for index, process in pods.items()}
    codes = {index: process.returncode for index, process in pods.items()}
    assert codes == {0: 0, 1: 1, 2: 0, 3: 0}, said
    line = said[1][1].splitlines()[-1]
    assert line.startswith("error: "), line
    assert not (tmp_path / RUN).exists()

    again = start(1, tmp_path, folder)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert out.startswith(f"{len(book.applications)} applications by small:")
    identifiers, probabilities = decided(tmp_path / RUN)
    assert identifiers.tolist() == sorted(book.applications[IDENTIFIER].to_pylist())
    assert probabilities.tobytes() == book.probabilities(scorer).tobytes()


class Operator:
    """Stands in for Airflow's BashOperator: what a mapped task is told."""

    def __init__(self, **told: Any) -> None:
        self.told = told
        self.tasks: list[dict[str, str]] = []
        MADE.append(self)

    partial = classmethod(lambda cls, **told: cls(**told))

    def expand(self, *, env: list[dict[str, str]]) -> None:
        self.tasks = env


MADE: list[Operator] = []
PAGE = (ROOT / "docs/how-to/batch-engines.md").read_text()


def test_the_mapped_task_of_airflow_runs_every_shard(
    book: Book, folder: Path, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "airflow" in block]
    code = re.sub(r"^from airflow.*\n", "", code, flags=re.MULTILINE)
    exec(compile(code, "dag.py", "exec"), {"DAG": lambda *_, **__: nullcontext(), "BashOperator": Operator})  # noqa: S102
    (operator,) = MADE
    command = operator.told["bash_command"].partition(" -m scoring ")[2].replace("{{ ds }}", "2026-11-01")
    words = shlex.split(command.replace("/mnt/models/NAME/VERSION", str(folder)).replace("/mnt/book", str(book.folder)))
    assert operator.told["append_env"]
    for variables in reversed(operator.tasks):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main([word.replace("/mnt/", f"{tmp_path}/") for word in [*words, "--workers", "1"]]) == 0
    assert decided(tmp_path / "scores-2026-11-01")[1].tobytes() == book.probabilities(scorer).tobytes()


def test_the_loop_of_databricks_has_every_shard() -> None:
    (task,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]
    loop = task["for_each_task"]
    words = loop["task"]["spark_python_task"]["parameters"]
    shards = [
        Shard.of(words[words.index("--shard") + 1].replace("{{input}}", str(index)), shards=None)
        for index in json.loads(loop["inputs"])
    ]
    assert shards == [Shard(index, 4) for index in range(4)]
    understood = commands.commands[words[0]].make_context("batch", words[1:]).params
    assert understood["workers"] == 4
