"""How many files of the project one request runs through, with a key and the decision log on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from scoring.keys import Scope
from tests.home_credit import EXAMPLE
from tests.keys import Keys
from tests.server import ROOT
from training.run import Delivered

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
    assert len(files) <= 18, files
