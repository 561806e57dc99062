"""Client of the credit-scoring service."""

from .async_client import AsyncClient
from .batch import BatchResult, Rejection
from .client import Client
from .clock import Clock
from .decision import Decision, Outcome, RiskLevel
from .errors import (
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    Overloaded,
    ResponseError,
    ServerError,
    TimedOut,
    Unauthorized,
    UnexpectedAnswer,
)
from .problem import Problem, Violation
from .retry import Retry
from .version import __version__

__all__ = [
    "AsyncClient",
    "BatchResult",
    "Client",
    "ClientError",
    "Clock",
    "ConnectionFailed",
    "Decision",
    "InvalidRequest",
    "Outcome",
    "Overloaded",
    "Problem",
    "Rejection",
    "ResponseError",
    "Retry",
    "RiskLevel",
    "ServerError",
    "TimedOut",
    "Unauthorized",
    "UnexpectedAnswer",
    "Violation",
    "__version__",
]
