"""How many files of the project one request, one look at drift and one training run through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import yaml

from scoring.keys import Scope
from tests.home_credit import EXAMPLE, write_bare_portfolio
from tests.keys import Keys
from tests.server import ROOT, Server, unmeasured
from training.run import Delivered
from training.settings import TrainingSettings

SCRIPT = """
import asyncio, json, sys, threading
from pathlib import Path
import httpx
import service

EXAMPLE = json.loads(sys.argv[2])

async def main():
    app, state = service.CreditScoring.to_asgi(), {}
    events, sent = asyncio.Queue(), asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    life = asyncio.create_task(app(scope, events.get, sent.put))
    await events.put({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        headers = {"X-API-Key": sys.argv[1]}
        assert (await client.post("/predict", json=EXAMPLE, headers=headers)).status_code == 200
        found, root = set(), Path.cwd()
        def seen(frame, event, argument):
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(root) and ".venv" not in file.parts:
                found.add(file.relative_to(root).as_posix())
        threading.setprofile(seen); sys.setprofile(seen)
        assert (await client.post("/predict", json=EXAMPLE, headers=headers)).status_code == 200
        sys.setprofile(None); threading.setprofile(None)
    print(json.dumps(sorted(found)))
    await events.put({"type": "lifespan.shutdown"})
    await life

asyncio.run(main())
"""


def test_one_prediction_runs_through_few_files(delivered: Delivered, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    secret = keys.create("caller", Scope.PREDICT)
    settings = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text()) | {"model": delivered.tag}
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump(settings))
    environment = {
        **os.environ,
        **keys.environment,
        "CREDIT_SCORING_SETTINGS": str(tmp_path / "serving.yaml"),
        "DECISION_LOG_DIR": str(tmp_path / "log"),
        "DECISION_LOG_KEY": "0123456789abcdef" * 4,
    }
    command = [sys.executable, "-c", SCRIPT, secret, json.dumps(EXAMPLE)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout.splitlines()[-1])
    assert {"decision_log/writer.py", "serving/authentication.py", "scoring/scorer.py"} <= set(files)
    assert len(files) <= 22, "\n".join(files)


COMMAND = """
import importlib, json, sys, threading
root, found, known = sys.argv[1], set(), set()

def seen(frame, event, argument):
    code = frame.f_code
    if event != "call" or code in known:
        return
    known.add(code)
    name = code.co_filename
    if name.startswith(root) and "/.venv/" not in name and not _while_loading(frame):
        found.add(name.removeprefix(root))

def _while_loading(frame):
    # What runs once, when a module is imported, is not a step of the command.
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(root):
            return True
        frame = frame.f_back
    return False

main = importlib.import_module(sys.argv[2]).main
sys.setprofile(seen); threading.setprofile(seen)
code = main(sys.argv[3:])
sys.setprofile(None); threading.setprofile(None)
print(json.dumps([code, sorted(name for name in found if name.endswith(".py"))]))
"""


def files_of(module: str, *arguments: str) -> tuple[int, list[str]]:
    """Exit code of a command, and the project's Python files that it runs through."""
    command = [sys.executable, "-c", COMMAND, f"{ROOT}/", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=unmeasured(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    code, files = json.loads(done.stdout.splitlines()[-1])
    return code, files


def test_a_look_at_drift_runs_through_few_files(server: Server, delivered: Delivered) -> None:
    for _ in range(2):
        httpx.post(f"{server.url}/predict/batch", json={"applications": [EXAMPLE] * 200}).raise_for_status()
    code, files = files_of("monitoring.cli", "drift", "--live", server.url, "--model", delivered.tag)
    assert code in (0, 3)  # 3 is an alarm: one applicant two hundred times
    assert {"monitoring/drift.py", "monitoring/sources.py"} <= set(files)
    assert len(files) <= 22, "\n".join(files)


def test_a_training_runs_through_few_files(generated: Path, settings: TrainingSettings, tmp_path: Path) -> None:
    values = settings.model_dump(mode="json") | {"portfolio": str(write_bare_portfolio(tmp_path))}
    values["tracking"] |= {"model": "walked_model", "uri": f"sqlite:///{tmp_path}/mlflow.db"}
    values["model"] |= {"max_trees": 5}
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(values))
    arguments = ("run", "--data", str(generated), "--no-promote", "--settings", str(tmp_path / "training.yaml"))
    code, files = files_of("training.cli", *arguments)
    assert (code, "training/trainer.py" in files) == (0, True)
    assert len(files) <= 54, "\n".join(files)
