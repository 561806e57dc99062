"""The peers of the comparison: what each is, how it is started and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.request_format import (
    DECISIONS,
    DECISIONS_AND_TABLES,
    ONE_ROUTE,
    OPEN_INFERENCE,
    RECORDS,
    SPLIT_FRAME,
    RequestFormat,
)
from benchmarks.store import ROOT

_PEERS = Path(__file__).parent / "peers"
_SERVING = ROOT / "requirements" / "serving.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way to serve the model.

    Attributes
    ----------
    command : program of the peer's environment and its arguments; {port}, {uri} and {name} are filled in
    ready : path that answers 200 as soon as the server can
    requests : the contract; None for a server without a model
    prepare : a module that is run in the environment before the first start
    tolerance : how far a PD may be from the scorer's, where the contract rounds it
    own_model : serves a model of its own, so that an answer need only be a probability
    changes : sections of configs/serving.yaml and what is different in them, for a variant of this service
    headers : of every request, "Name: value"
    """

    name: str
    title: str
    requirements: Path
    command: Sequence[str]
    ready: str
    requests: RequestFormat | None
    prepare: str | None = None
    tolerance: float = 0.0
    own_model: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


def _requirements(name: str) -> Path:
    return _PEERS / name / "requirements.txt"


def _module(name: str) -> tuple[str, ...]:
    return ("python", "-m", f"benchmarks.peers.{name}.server")


SERVICE = Peer(
    name="service",
    title="this service",
    requirements=_SERVING,
    command=("bentoml", "serve", ".", "--host", "127.0.0.1", "--port", "{port}"),
    ready="/readyz",
    requests=DECISIONS_AND_TABLES,
)

EMPTY = Peer(
    name="empty_bentoml",
    title="empty BentoML service",
    requirements=_SERVING,
    command=(
        "bentoml", "serve", "benchmarks.peers.empty_bentoml.service:Empty", "--host", "127.0.0.1", "--port", "{port}",
    ),
    ready="/readyz",
    requests=None,
)  # fmt: skip

ORIGINAL = Peer(
    name="original_design",
    title="original design: FastAPI, pandas, scikit-learn",
    requirements=_requirements("original_design"),
    command=_module("original_design"),
    ready="/health",
    requests=DECISIONS,
    prepare="benchmarks.peers.original_design.train",
    own_model=True,
)

FASTAPI = Peer(
    name="fastapi_scorer",
    title="FastAPI, this scorer",
    requirements=_requirements("fastapi_scorer"),
    command=_module("fastapi_scorer"),
    ready="/health",
    requests=DECISIONS,
)

FLOOR = Peer(
    name="asgi_floor",
    title="bare ASGI, this scorer",
    requirements=_requirements("asgi_floor"),
    command=_module("asgi_floor"),
    ready="/health",
    requests=DECISIONS,
)

PYFUNC = Peer(
    name="bentoml_pyfunc",
    title="stock BentoML, MLflow pyfunc",
    requirements=_requirements("bentoml_pyfunc"),
    command=(
        "bentoml", "serve", "benchmarks.peers.bentoml_pyfunc.service:Pyfunc",
        "--host", "127.0.0.1", "--port", "{port}",
    ),
    ready="/readyz",
    requests=RECORDS,
    prepare="benchmarks.peers.bentoml_pyfunc.load",
    tolerance=1e-9,
)  # fmt: skip

MLFLOW = Peer(
    name="mlflow_serve",
    title="mlflow models serve",
    requirements=_requirements("mlflow_serve"),
    command=(
        "mlflow", "models", "serve", "--model-uri", "{uri}", "--env-manager", "local", "--workers", "1",
        "--host", "127.0.0.1", "--port", "{port}",
    ),
    ready="/ping",
    requests=SPLIT_FRAME,
)  # fmt: skip

MLSERVER = Peer(
    name="mlserver_scorer",
    title="MLServer, this scorer",
    requirements=_requirements("mlserver_scorer"),
    command=("mlserver", "start", "benchmarks/peers/mlserver_scorer"),
    ready="/v2/models/credit/ready",
    requests=OPEN_INFERENCE,
)

LITSERVE = Peer(
    name="litserve_scorer",
    title="LitServe, this scorer",
    requirements=_requirements("litserve_scorer"),
    command=_module("litserve_scorer"),
    ready="/health",
    requests=ONE_ROUTE,
)

RAY = Peer(
    name="ray_serve",
    title="Ray Serve, this scorer",
    requirements=_requirements("ray_serve"),
    command=_module("ray_serve"),
    ready="/health",
    requests=DECISIONS,
)

PEERS = (SERVICE, FLOOR, FASTAPI, ORIGINAL, PYFUNC, MLFLOW, MLSERVER, LITSERVE, RAY, EMPTY)


def _variant(name: str, title: str, **changes: Any) -> Peer:
    return replace(SERVICE, name=name, title=title, changes=changes)


_LOGGED = {"logging": {"access": {"enabled": True}}}
_TRACED = {"tracing": {"excluded_urls": "nothing"}}

VARIANTS = (
    replace(SERVICE, title="as it comes"),
    _variant("alone", "every request scored alone", runner={"max_batch_rows": 1}),
    _variant("placed", "model in a service of its own", runner={"placement": "service"}),
    _variant("innermost", "boundary inside BentoML's middlewares", boundary="innermost"),
    _variant("traced", "the same, traced", boundary="innermost", bentoml=_TRACED),
    _variant("logged", "the same, with access log", boundary="innermost", bentoml=_LOGGED),
)
"""This service under other settings: what each choice costs."""
