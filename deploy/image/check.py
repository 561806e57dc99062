"""Holding the serving image to its limits: size, contents, start, and an end under load."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from deploy.command import read_json, run
from deploy.errors import DeployError
from deploy.image.container import HARDENED, hardened
from deploy.load import Load, Outcome, counted
from deploy.record import write_record
from deploy.settings import ROOT, DeploySettings, ImageSettings, example_body

RESULTS = ROOT / "deploy" / "image" / "results.json"
_MEGABYTE = 1_000_000
_LOOK = """
import importlib.util, json, os, shutil, sys
absent, programs = json.loads(sys.argv[1]), json.loads(sys.argv[2])
def writable(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    except OSError:
        return False
    return True
print(json.dumps({
    "uid": os.getuid(),
    "packages": [name for name in absent if importlib.util.find_spec(name)],
    "programs": [name for name in programs if shutil.which(name)],
    "pip_cache": os.path.isdir("/root/.cache/pip"),
    "writable": [path for path in ("/app/x", "/etc/x", "/usr/x") if writable(path)],
    "components": len(json.load(open("/app/sbom.cdx.json"))["components"]),
}))
"""


def check(image: str, results: Path) -> list[str]:
    """What was found, one line each, written to `results` too; DeployError if the image breaks a limit."""
    settings = DeploySettings.delivered().image
    found = {
        "image": image,
        "load_average": os.getloadavg()[0],
        "size": _size(image),
        "contents": _contents(image, settings),
        "start_seconds": _starts(image, settings),
        "stop": _stop(image, settings),
    }
    broken = list(_broken(found, settings))
    if broken:
        raise DeployError(f"{image}: {'; '.join(broken)}; found {json.dumps(found)}")
    write_record(results, f"python -m deploy.image check {image}", found)
    return [f"{name}: {json.dumps(value)}" for name, value in found.items()]


def _size(image: str) -> dict[str, float]:
    (inspected,) = read_json("podman", "image", "inspect", image)
    (base,) = read_json("podman", "image", "inspect", inspected["Labels"]["org.opencontainers.image.base.name"])
    sizes = {"megabytes": inspected["Size"], "beyond_the_base": inspected["Size"] - base["Size"]}
    return {name: round(size / _MEGABYTE, 1) for name, size in sizes.items()}


def _contents(image: str, settings: ImageSettings) -> dict[str, Any]:
    words = [json.dumps(settings.absent), json.dumps(settings.absent_programs)]
    looked = run("podman", "run", "--rm", *HARDENED, "--entrypoint", "python", image, "-c", _LOOK, *words)
    contents: dict[str, Any] = json.loads(looked)
    return contents


def _starts(image: str, settings: ImageSettings) -> list[float]:
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(settings.starts):
            with hardened(image, Path(folder) / "log", memory=settings.memory) as container:
                seconds.append(round(container.start_seconds, 2))
    return seconds


def _stop(image: str, settings: ImageSettings) -> dict[str, Any]:
    """SIGTERM in the middle of load: what became of the requests that were sent before it, and after it."""
    body, stop = example_body(), settings.stop
    with tempfile.TemporaryDirectory() as folder, hardened(image, Path(folder) / "log", memory=settings.memory) as it:
        with Load(it.address, "/predict", body, threads=stop.threads, per_second=stop.per_second) as load:
            time.sleep(stop.seconds)
            at = time.monotonic()
            it.terminate()
            code = it.process.wait(stop.within_seconds)
            took = time.monotonic() - at
        written = (Path(folder) / "log").read_text(errors="replace")
    return {
        **_judged(load.outcomes, at),
        "exit_code": code,
        "seconds": round(took, 2),
        "traceback": "Traceback" in written,
    }


def _judged(outcomes: Sequence[Outcome], at: float) -> dict[str, Any]:
    """From the first refused connection on the port is nobody's, and soon perhaps somebody else's."""
    closed = min((one.ended for one in outcomes if one.result == ConnectionRefusedError.__name__), default=math.inf)
    sent = [(one.sent, one) for one in outcomes if one.sent is not None and one.sent < closed]
    return {
        "sent_before": counted([one for moment, one in sent if moment < at]),
        "sent_after": counted([one for moment, one in sent if moment >= at]),
    }


def _broken(found: Mapping[str, Any], settings: ImageSettings) -> Iterator[str]:
    contents, stop = found["contents"], found["stop"]
    if found["size"]["beyond_the_base"] > settings.max_added_megabytes:
        yield f"{found['size']['beyond_the_base']} MB beyond the base, {settings.max_added_megabytes} are allowed"
    if median(found["start_seconds"]) > settings.max_start_seconds:
        yield f"ready after {median(found['start_seconds'])} s, {settings.max_start_seconds:g} are allowed"
    if contents["uid"] == 0:
        yield "it runs as root"
    for what in ("packages", "programs", "pip_cache", "writable"):
        if contents[what]:
            yield f"{what}: {contents[what]}"
    if set(stop["sent_before"]) != {"200"} or stop["exit_code"] or stop["traceback"]:
        yield f"SIGTERM under load: {stop}"
