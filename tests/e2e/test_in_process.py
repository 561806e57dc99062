"""BentoML's typed APIs, called in the process of the service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import yaml

from tests.home_credit import EXAMPLE
from tests.server import ROOT, Server
from training.run import Delivered

SCRIPT = """
import asyncio, json, sys
from service import CreditScoring, REQUESTS

async def main():
    service = CreditScoring()
    request = REQUESTS.predict.model_validate(json.loads(sys.argv[1]))
    one = await service.predict(application=request.application, client_id=request.client_id)
    many = await service.predict_batch(applications=[request, request])
    vector = await service.predict_features(features=[None] * len(service.engine.served.scorer.features))
    print(json.dumps([one, *many["results"], vector]))

asyncio.run(main())
"""


def test_the_typed_apis_answer_as_the_routes_do(delivered: Delivered, server: Server, tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text()) | {"model": delivered.tag}
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump(settings))
    environment = {**os.environ, "CREDIT_SCORING_SETTINGS": str(tmp_path / "serving.yaml")}
    command = [sys.executable, "-c", SCRIPT, json.dumps(EXAMPLE)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    single, *batch, vector = json.loads(done.stdout)
    served = httpx.post(f"{server.url}/predict", json=EXAMPLE).json()
    changing = {"request_id", "timestamp"}
    assert {key: value for key, value in single.items() if key not in changing} == {
        key: value for key, value in served.items() if key not in changing
    }
    assert [decision["probability"] for decision in batch] == [served["probability"]] * 2
    assert 0 < vector["probability"] < 1
