"""What is rehearsed, each act under load: what happened, in numbers. DeployError where it is not what must happen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.command import run
from deploy.errors import DeployError
from deploy.load import Load, Outcome, counted, request
from deploy.rehearsal.cluster import Cluster, wait_until
from deploy.rehearsal.manifests import NAMESPACE
from deploy.settings import RehearsalSettings, example_body

_PODS = "app.kubernetes.io/component=service"
_DEPLOYMENT = "deployment/credit-scoring"
# Memory that belongs to a file rather than to the process that fills it: the worker is then the largest of the pod.
_FILL = "import os; file = os.memfd_create('fill')\nwhile True: os.write(file, bytes(1 << 20))"


@dataclass(slots=True)
class Watched:
    """The load of an act; `outcomes` is there when it has ended."""

    outcomes: Sequence[Outcome] = ()
    marks: dict[str, float] = field(default_factory=dict)

    def found(self) -> dict[str, Any]:
        """Requests by what became of them, and the model versions that answered."""
        versions = sorted({outcome.version for outcome in self.outcomes if outcome.version})
        return {"requests": counted(self.outcomes), "versions": versions}


class Acts:
    """The acts, on a cluster where the service is to be, in their order; the load asks with an API key."""

    def __init__(self, cluster: Cluster, settings: RehearsalSettings, key: str) -> None:
        self._cluster = cluster
        self._settings = settings
        self._key = key

    def install(self, manifests: str) -> dict[str, Any]:
        """Apply everything, and wait for two pods that answer."""
        file = self._cluster.folder / "manifests.yaml"
        file.write_text(manifests, encoding="utf-8")
        start = time.monotonic()
        self._cluster.kubectl("apply", "--filename", file)
        self._rolled_out()
        return {"seconds": round(time.monotonic() - start, 1), "pods": len(self._pods())}

    def roll(self, image: str) -> dict[str, Any]:
        """A rolling update to another Bento."""
        return self._rollout("set", "image", _DEPLOYMENT, f"service={image}")

    def roll_back(self) -> dict[str, Any]:
        """Back to the Bento before."""
        return self._rollout("rollout", "undo", _DEPLOYMENT)

    def evict(self) -> dict[str, Any]:
        """Evict both pods at once: the budget lets one go, and the other when there is one in its place."""
        with self._load() as watched:
            first, second = self._pods()
            answers = [self._evict(first), self._evict(second)]
            seconds = wait_until("the second eviction", lambda: self._evict(second) == "evicted", self._seconds)
            self._rolled_out()
        _require(answers == ["evicted", "refused by the budget"], f"evictions: {answers}")
        _require_all_answered(watched)
        return {"evictions": answers, "second_allowed_after_seconds": round(seconds, 1), **watched.found()}

    def exhaust(self) -> dict[str, Any]:
        """Take all memory of a pod: it is killed, and comes back."""
        with self._load() as watched:
            victim = self._pods()[0]
            start = time.monotonic()
            self._exhaust(victim)
            wait_until(
                "the kill for want of memory",
                lambda: self._last_end(victim).get("reason") == "OOMKilled",
                self._seconds,
            )
            wait_until("the killed pod's return", lambda: self._is_ready(victim), self._seconds)
            seconds = time.monotonic() - start
        failed = [outcome.ended for outcome in watched.outcomes if not outcome.answered]
        span = round(max(failed) - min(failed), 2) if failed else 0.0
        return {
            "reason": "OOMKilled",
            "ready_after_seconds": round(seconds, 1),
            "failing_seconds": span,
            **watched.found(),
        }

    def refuse(self, image: str, version: str) -> dict[str, Any]:
        """Roll out a Bento whose model was altered: it never becomes ready, and never answers."""
        with self._load() as watched:
            before = set(self._pods())
            self._cluster.kubectl("set", "image", _DEPLOYMENT, f"service={image}")
            wait_until("the new pod", lambda: bool(set(self._pods()) - before), self._seconds)
            (bad,) = set(self._pods()) - before
            time.sleep(self._settings.bad_version_seconds)
            ready, said = self._is_ready(bad), self._last_end(bad)["message"].strip().splitlines()
            self._cluster.kubectl("rollout", "undo", _DEPLOYMENT)
            self._rolled_out()
        _require(not ready, f"{bad} became ready")
        _require_all_answered(watched)
        _require(version not in watched.found()["versions"], f"{version} answered")
        return {"ready": ready, "said": [line for line in said if "Error: " in line], **watched.found()}

    @property
    def _seconds(self) -> float:
        return float(self._settings.wait_seconds)

    def _rollout(self, *command: str) -> dict[str, Any]:
        with self._load() as watched:
            start = time.monotonic()
            self._cluster.kubectl(*command)
            self._rolled_out()
            seconds = time.monotonic() - start
        _require_all_answered(watched)
        _require(len(watched.found()["versions"]) > 1, "the rollout changed no model version")
        return {"seconds": round(seconds, 1), **watched.found()}

    @contextmanager
    def _load(self) -> Iterator[Watched]:
        watched, load = Watched(), self._settings.requests
        address = self._cluster.kubectl("get", "service", "credit-scoring", "--output", "jsonpath={.spec.clusterIP}")
        where = (address, 80)
        wait_until(
            "an answer", lambda: request(where, "/predict", example_body(), key=self._key).answered, self._seconds
        )
        with Load(
            where, "/predict", example_body(), threads=load.threads, per_second=load.per_second, key=self._key
        ) as running:
            time.sleep(self._settings.settle_seconds)
            yield watched
            time.sleep(self._settings.settle_seconds)
        watched.outcomes = running.outcomes

    def _rolled_out(self) -> None:
        self._cluster.kubectl("rollout", "status", _DEPLOYMENT, f"--timeout={self._settings.wait_seconds}s")

    def _pods(self) -> list[str]:
        """The pods that are not on their way out."""
        listed = json.loads(self._cluster.kubectl("get", "pods", "--selector", _PODS, "--output", "json"))
        return sorted(pod["metadata"]["name"] for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"])

    def _status(self, pod: str) -> dict[str, Any]:
        read = json.loads(self._cluster.kubectl("get", "pod", pod, "--output", "json"))
        status: dict[str, Any] = read["status"]["containerStatuses"][0]
        return status

    def _is_ready(self, pod: str) -> bool:
        return bool(self._status(pod)["ready"])

    def _last_end(self, pod: str) -> dict[str, Any]:
        """How the container of a pod ended the last time."""
        ended: dict[str, Any] = self._status(pod)["lastState"].get("terminated", {})
        return ended

    def _exhaust(self, pod: str) -> None:
        try:
            self._cluster.kubectl("exec", pod, "--", "python", "-c", _FILL)
        except DeployError as error:
            if "exit code 137" not in str(error):  # it ends with the pod
                raise

    def _evict(self, pod: str) -> str:
        body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
        file = self._cluster.folder / "eviction.json"
        file.write_text(json.dumps(body), encoding="utf-8")
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
        try:
            self._cluster.kubectl("create", "--raw", path, "--filename", file)
        except DeployError as error:
            if "disruption budget" not in str(error):
                raise
            return "refused by the budget"
        return "evicted"


def altered(image: str, cluster: Cluster) -> str:
    """An image with one number of its model changed."""
    reference = f"{image.rpartition(':')[0]}:altered"
    file = cluster.folder / "Containerfile"
    change = "sed -i 's/leaf_value=/leaf_value=1/' /app/bento/models/*/*/model.txt"
    file.write_text(f"FROM {image}\nUSER 0\nRUN {change}\nUSER 10034\n", encoding="utf-8")
    run("buildah", "bud", "--quiet", "--file", file, "--tag", reference, cluster.folder / "pause")
    return reference


def _require_all_answered(watched: Watched) -> None:
    _require(all(outcome.answered for outcome in watched.outcomes), f"requests: {counted(watched.outcomes)}")


def _require(true: bool, otherwise: str) -> None:
    if not true:
        raise DeployError(otherwise)
