"""Takes the pictures of the documentation in a real browser: `make pictures`. It needs Chromium and a champion."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pandas as pd
import yaml
from PIL import Image

_ROOT = Path(__file__).resolve().parent.parent
_PICTURES = _ROOT / "docs/pictures"
_BENTOML = Path(sys.executable).with_name("bentoml")
_APPLICATIONS = 1_000
_START_SECONDS, _STOP_SECONDS, _BROWSER_SECONDS = 60.0, 30, 120
_QUALITY = 80
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SIZES = {
    "model-report": (1200, 1000),
    "monitoring-report": (1000, 1000),
    "service-page": (1200, 900),
    "decision-page": (1200, 1000),
}
_DECIDED = """<script>window.fetch = async () => new Response({picture});
byId("paste").value = {body}; fill(); form.requestSubmit();</script></body>"""
"""Fills the form of the decision page, and answers it with what the service has answered."""


def main() -> None:
    """Serve the champion, let it decide on generated applications, and picture its reports and its pages."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: no browser: one of {', '.join(_BROWSERS)} is needed")
    with tempfile.TemporaryDirectory(prefix="credit-scoring-pictures-") as name:
        folder = Path(name)
        _run("training", "report", "--output", str(folder / "model-report.html"))
        with _served(folder) as url:
            _decide(url, folder)
            _explain(url, folder)
            _picture(browser, "service-page", f"{url}/", folder)
        _report_on_decisions(folder)
        for page in ("model-report", "monitoring-report", "decision-page"):
            _picture(browser, page, (folder / f"{page}.html").as_uri(), folder)


def _decide(url: str, folder: Path) -> None:
    """Send generated applications to the service, and write their outcomes and sexes as a lender would have them."""
    _run("training", "synthesize", "--clients", str(_APPLICATIONS), "--seed", "8", "--output", str(folder / "data"))
    table = pd.read_csv(folder / "data/application_train.csv").head(_APPLICATIONS)
    known = table.assign(client_id=table["SK_ID_CURR"].astype(str), outcome=table["TARGET"])
    known[["client_id", "outcome"]].to_csv(folder / "outcomes.csv", index=False)
    known[["client_id", "CODE_GENDER"]].to_csv(folder / "protected.csv", index=False)
    rows = json.loads(table.drop(columns=["SK_ID_CURR", "TARGET"]).to_json(orient="records"))
    body = {
        "applications": [{"client_id": i, "application": row} for i, row in zip(known["client_id"], rows, strict=True)]
    }
    answer = httpx.post(f"{url}/predict/batch", json=body, timeout=60).raise_for_status().json()
    declined = next(i for i, one in enumerate(answer["results"]) if one.get("decision") == "decline")
    (folder / "declined.json").write_text(json.dumps(body["applications"][declined]))


def _explain(url: str, folder: Path) -> None:
    """Draw the reasons of a decline, and write the decision page as it shows them."""
    body = (folder / "declined.json").read_text()
    headers = {"Content-Type": "application/json", "Accept": "image/svg+xml"}
    drawn = httpx.post(f"{url}/explain", content=body, headers=headers, timeout=60).raise_for_status().text
    kept = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    (_PICTURES / "waterfall.svg").write_text(f"{kept}\n", encoding="utf-8")
    page = httpx.get(f"{url}/decide", timeout=60).raise_for_status().text
    script = _DECIDED.format(picture=json.dumps(drawn).replace("</", "<\\/"), body=json.dumps(body))
    (folder / "decision-page.html").write_text(page.replace("</body>", script), encoding="utf-8")


def _report_on_decisions(folder: Path) -> None:
    files = {
        "log": "decisions",
        "outcomes": "outcomes.csv",
        "protected": "protected.csv",
        "output": "monitoring-report.html",
    }
    words = [word for name, file in files.items() for word in (f"--{name}", str(folder / file))]
    _run("monitoring", "report", *words, environment=_log(folder))


def _log(folder: Path) -> dict[str, str]:
    return {"DECISION_LOG_DIR": str(folder / "decisions"), "DECISION_LOG_KEY_FILE": str(folder / "decisions.key")}


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of the champion, served with a decision log in the folder."""
    (folder / "decisions.key").write_text(secrets.token_hex(32))
    (folder / "decisions.key").chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = yaml.safe_load((_ROOT / "configs/serving.yaml").read_text()) | {"page": {"enabled": True}}
    (folder / "serving.yaml").write_text(yaml.safe_dump(settings))
    environment = {**os.environ, **_log(folder), "CREDIT_SCORING_SETTINGS": str(folder / "serving.yaml")}
    command = [str(_BENTOML), "serve", ".", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, cwd=_ROOT, env=environment)
    try:
        _wait(f"http://127.0.0.1:{port}/readyz")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(_STOP_SECONDS)


def _wait(url: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    sys.exit(f"error: {url} is not ready after {_START_SECONDS:.0f} s")


def _run(*words: str, environment: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", *words]
    if subprocess.run(command, cwd=_ROOT, env={**os.environ, **(environment or {})}, check=False).returncode:
        sys.exit(1)  # the command has said why


def _picture(browser: str, name: str, url: str, folder: Path) -> None:
    """Let the browser draw a page, and keep what it drew as WebP."""
    drawn, (width, height) = folder / f"{name}.png", _SIZES[name]
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'browser'}",
        f"--window-size={width},{height}", "--virtual-time-budget=5000", f"--screenshot={drawn}", url,
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=_BROWSER_SECONDS, capture_output=True)
    _PICTURES.mkdir(exist_ok=True)
    with Image.open(drawn) as image:
        image.save(_PICTURES / f"{name}.webp", quality=_QUALITY, method=6)


if __name__ == "__main__":
    main()
