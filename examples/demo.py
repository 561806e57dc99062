"""The whole main job in one go: train, track, register, judge, promote, build the Bento, serve it, score, stop."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from credit_scoring_client.answer import CreditDecision
from credit_scoring_client.client import Client

from features.portfolio import Portfolio
from scoring.keys import KEYS_VARIABLE, Scope, create_key, issue
from serving.schemas import example_of

_ROOT = Path(__file__).resolve().parent.parent
_BENTOML = Path(sys.executable).with_name("bentoml")
_START_SECONDS = 60.0
_STOP_SECONDS = 30


def main() -> None:
    """Run every step and print the decision that the served Bento made."""
    _say("train on generated applications, track in MLflow, register, judge, promote")
    trained = subprocess.run([sys.executable, "-m", "training", "run"], cwd=_ROOT, check=False)
    if trained.returncode:  # it has said why
        sys.exit(trained.returncode)
    _say("build the Bento")
    tag = _build()
    with _served(tag) as (url, key), Client(url, api_key=key) as client:
        _say(f"score with {tag} at {url}")
        client.wait_until_ready(_START_SECONDS)
        example = example_of(Portfolio.named_in(_ROOT / "configs/training.yaml"))
        decision = client.predict(example["application"], client_id=example["client_id"])
        info = client.model_info()
    sys.stdout.write(f"{_as_answered(decision)}\n")
    _say(f"stopped; the decision came from {info['name']}:{info['version']}, digest {info['digest'][:12]}")


def _as_answered(decision: CreditDecision) -> str:
    """The decision as the service writes it, with milliseconds."""
    timestamp = decision.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    answer = asdict(decision) | {"timestamp": timestamp}
    return json.dumps(answer, indent=2)


def _build() -> str:
    built = subprocess.run(
        [_BENTOML, "build", "--output", "tag"], cwd=_ROOT, check=True, capture_output=True, text=True
    )
    return built.stdout.strip().splitlines()[-1].removeprefix("__tag__:")


@contextmanager
def _served(tag: str) -> Iterator[tuple[str, str]]:
    """The address of the served Bento, and an API key that it knows."""
    port = str(_free_port())
    command = [str(_BENTOML), "serve", tag, "--host", "127.0.0.1", "--port", port]
    issued = issue("demo", (Scope.PREDICT,), created=datetime.now(UTC))
    with tempfile.TemporaryDirectory(prefix="credit-scoring-demo-") as folder:
        keys = Path(folder) / "keys.yaml"
        create_key(keys, issued)
        server = subprocess.Popen(command, cwd=Path.home(), env={**os.environ, KEYS_VARIABLE: str(keys)})
        try:
            yield f"http://127.0.0.1:{port}", issued.secret
        finally:
            server.terminate()
            server.wait(_STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    sys.stdout.write(f"\n== {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
