"""A new image in the place of the one that runs, and back again if it does not become ready."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from deploy.command import run
from deploy.errors import DeployError

_BY_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


class Target(ABC):
    """Something that runs the service."""

    @abstractmethod
    def running(self) -> str:
        """What it runs, by a name that `point` takes."""

    @abstractmethod
    def prepare(self, image: str) -> str:
        """The name of the same with another image."""

    @abstractmethod
    def point(self, name: str) -> None:
        """Let it run this, and wait; DeployError if that does not become ready."""


def deploy(target: Target, image: str) -> str:
    """Put an image in charge and return what it ran before; DeployError if it had to be put back."""
    if not _BY_DIGEST.fullmatch(image):
        raise DeployError(f"image {image}: must end in @sha256: and 64 hexadecimal digits; a tag may be moved")
    before = target.running()
    after = target.prepare(image)
    try:
        target.point(after)
    except DeployError as error:
        raise DeployError(f"{error}; {_put_back(target, before)}") from None
    return before


def _put_back(target: Target, before: str) -> str:
    try:
        target.point(before)
    except DeployError as error:
        return f"putting back {before} failed as well: {error}"
    return f"put back to {before}"


class Kubernetes(Target):
    """The Deployment of deploy/kubernetes, in kubectl's current context."""

    def __init__(self, *, namespace: str, deployment: str, seconds: int) -> None:
        self._kubectl = ("kubectl", "--namespace", namespace)
        self._deployment = f"deployment/{deployment}"
        self._seconds = seconds

    def running(self) -> str:
        """The image of its container."""
        path = "{.spec.template.spec.containers[?(@.name=='service')].image}"
        return run(*self._kubectl, "get", self._deployment, f"--output=jsonpath={path}")

    def prepare(self, image: str) -> str:
        """The image itself: Kubernetes keeps the rest."""
        return image

    def point(self, name: str) -> None:
        """Set the image and wait for the roll-out."""
        run(*self._kubectl, "set", "image", self._deployment, f"service={name}")
        run(*self._kubectl, "rollout", "status", self._deployment, f"--timeout={self._seconds}s")
