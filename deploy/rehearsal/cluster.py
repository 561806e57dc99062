"""A cluster of one node on this machine: etcd, the control plane, dockerd, kubelet and kube-proxy, all of them real.

Kubernetes 1.20 is what can be built where no registry can be reached; its node runs containers by dockerd.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.command import run
from deploy.errors import DeployError

_API = "https://127.0.0.1:16443"
_ETCD = "http://127.0.0.1:12379"
_PAUSE = "localhost/pause:1"
_WAIT_SECONDS = 120.0
_STOP_SECONDS = 30
_TABLES = ("nat", "filter", "mangle")
_BRIDGE = "172.30.0.1/24"
_SERVICES = "10.96.0.0/16"
_RUNTIME = """#!/bin/sh
# runc, but for a negative score for the OOM killer, which may not be set here.
bundle=
previous=
for word in "$@"; do
    [ "$previous" = --bundle ] && bundle=$word
    previous=$word
done
[ -n "$bundle" ] && sed -i -E 's/"oomScoreAdj":-[0-9]+/"oomScoreAdj":0/' "$bundle/config.json"
exec runc "$@"
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is ready."""

    folder: Path

    @property
    def docker(self) -> str:
        """The address of its dockerd."""
        return f"unix://{self.folder}/docker.sock"

    def kubectl(self, *words: str | Path) -> str:
        """What kubectl answers."""
        return run("kubectl", "--kubeconfig", self.folder / "kubeconfig", "--namespace", "credit-scoring", *words)

    @property
    def version(self) -> str:
        """Of its API server."""
        return str(json.loads(self.kubectl("version", "--output", "json"))["serverVersion"]["gitVersion"])

    def load(self, image: str) -> None:
        """Hand an image of podman's to the node."""
        archive = self.folder / "image.tar"
        run("podman", "save", "--format", "docker-archive", "--output", archive, image)
        run("docker", "--host", self.docker, "load", "--input", archive)
        archive.unlink()


@contextmanager
def cluster(folder: Path, binaries: Path) -> Iterator[Cluster]:
    """A cluster from start to end; `binaries` has those of Kubernetes, and `folder` takes data and logs."""
    if os.geteuid():
        raise DeployError("a kubelet needs root")
    _write_files(folder)
    ready = Cluster(folder)
    with ExitStack() as stack:
        stack.callback(_remove_chains, _chains())
        for name, command in _commands(folder, binaries).items():
            stack.enter_context(_running(name, command, folder))
            if name == "dockerd":
                _wait("dockerd", lambda: run("docker", "--host", ready.docker, "info"))
                stack.callback(_remove_containers, ready)  # after the kubelet has ended, before dockerd does
                _make_pause(ready)
            if name == "kube-apiserver":
                _wait("the API server", lambda: ready.kubectl("get", "--raw", "/readyz"))
        _wait("the node", lambda: ready.kubectl("wait", "--for=condition=Ready", "node/node", "--timeout=5s"))
        yield ready


def wait_until(what: str, true: Callable[[], bool], seconds: float = _WAIT_SECONDS) -> float:
    """Wait for something to become true: how many seconds it took; DeployError if it takes too long."""
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > seconds:
            raise DeployError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)
    return time.monotonic() - start


def _wait(what: str, ask: Callable[[], str]) -> None:
    def answers() -> bool:
        try:
            ask()
        except DeployError:
            return False
        return True

    wait_until(what, answers)


def _write_files(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    run("openssl", "genrsa", "-out", folder / "accounts.key", "2048")
    named = {
        "clusters": [{"name": "c", "cluster": {"server": _API, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "kubeconfig").write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named})
    )
    (folder / "runtime").write_text(_RUNTIME)
    (folder / "runtime").chmod(0o755)


def _commands(folder: Path, binaries: Path) -> dict[str, list[str]]:
    """The programs of the cluster, in the order of their start."""
    config, accounts = f"--kubeconfig={folder}/kubeconfig", f"{folder}/accounts.key"
    return {
        "etcd": [
            "etcd", f"--data-dir={folder}/etcd", f"--listen-client-urls={_ETCD}", f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:12380", "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"{binaries}/kube-apiserver", f"--etcd-servers={_ETCD}", "--bind-address=127.0.0.1", "--secure-port=16443",
            f"--cert-dir={folder}/certificates", f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
            f"--service-account-key-file={accounts}", f"--service-account-signing-key-file={accounts}",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-cluster-ip-range={_SERVICES}",
            "--advertise-address=172.30.0.1", "--kubelet-preferred-address-types=InternalIP",
        ],
        "kube-controller-manager": [
            f"{binaries}/kube-controller-manager", config, f"--service-account-private-key-file={accounts}",
            "--leader-elect=false", "--use-service-account-credentials=false", "--port=0",
        ],
        "kube-scheduler": [f"{binaries}/kube-scheduler", config, "--leader-elect=false", "--port=0"],
        "dockerd": [
            "dockerd", f"--host=unix://{folder}/docker.sock", f"--data-root={folder}/docker",
            f"--exec-root={folder}/docker-run", f"--pidfile={folder}/docker.pid", f"--bip={_BRIDGE}",
            "--ip-masq=false",
            "--default-ulimit=nofile=20000:20000", f"--add-runtime=plain={folder}/runtime", "--default-runtime=plain",
            "--exec-opt=native.cgroupdriver=cgroupfs",
        ],
        "kubelet": [
            f"{binaries}/kubelet", config, f"--root-dir={folder}/kubelet", "--hostname-override=node",
            f"--docker-endpoint=unix://{folder}/docker.sock", f"--pod-infra-container-image={_PAUSE}",
            "--cgroup-driver=cgroupfs", "--fail-swap-on=false", "--enforce-node-allocatable=", "--eviction-hard=",
            f"--cert-dir={folder}/kubelet-certificates", "--authorization-mode=AlwaysAllow", "--address=172.30.0.1",
            "--max-open-files=20000", "--oom-score-adj=0", "--node-ip=172.30.0.1", "--resolv-conf=",
        ],
        "kube-proxy": [
            f"{binaries}/kube-proxy", config, "--hostname-override=node", "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0", "--oom-score-adj=0",
        ],
    }  # fmt: skip


@contextmanager
def _running(name: str, command: list[str], folder: Path) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_SECONDS)


def _make_pause(ready: Cluster) -> None:
    """What holds a pod's network: catatonit, which does nothing but wait."""
    context = ready.folder / "pause"
    context.mkdir(exist_ok=True)
    (context / "catatonit").write_bytes(Path("/usr/bin/catatonit").read_bytes())
    (context / "catatonit").chmod(0o755)
    (context / "Dockerfile").write_text('FROM scratch\nCOPY catatonit /catatonit\nENTRYPOINT ["/catatonit", "-P"]\n')
    run("docker", "--host", ready.docker, "build", "--tag", _PAUSE, context)


def _chains() -> frozenset[tuple[str, str]]:
    """The firewall's chains: table and name."""
    lines = ((table, line.split()) for table in _TABLES for line in run("iptables", "-t", table, "-S").splitlines())
    return frozenset((table, words[1]) for table, words in lines if words[0] == "-N")


def _remove_chains(before: frozenset[tuple[str, str]]) -> None:
    """Take away the chains that dockerd and kube-proxy have made, what leads into them, and the rules of the bridge."""
    made = _chains() - before
    bridges = {"docker0"} if ("nat", "DOCKER") in made else set()
    for table in _TABLES:
        names = {name for where, name in made if where == table}
        for line in run("iptables", "-t", table, "-S").splitlines():
            words = shlex.split(line)
            if words[0] == "-A" and (names & {words[1], words[-1]} or bridges & set(words)):
                run("iptables", "-t", table, "-D", *words[1:])
        for name in sorted(names):
            run("iptables", "-t", table, "-X", name)
    for bridge in bridges:
        run("ip", "link", "delete", bridge)


def _remove_containers(ready: Cluster) -> None:
    running = run("docker", "--host", ready.docker, "ps", "--all", "--quiet").split()
    if running:
        run("docker", "--host", ready.docker, "rm", "--force", *running)
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed(mounted):
        if f"{place}/".startswith(f"{ready.folder}/kubelet/"):
            run("umount", place)
