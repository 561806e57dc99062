"""Client of the credit-scoring service."""

from credit_scoring_client.answer import (
    AlternativeApplication,
    BatchResult,
    ChangedValue,
    CreditDecision,
    DecisionName,
    DecisionReason,
    ExplainedDecision,
    Override,
    ReachingChanges,
    ReasonContribution,
    RejectedApplication,
    RiskLevelName,
)
from credit_scoring_client.client import AsyncClient, Client
from credit_scoring_client.contract import __version__
from credit_scoring_client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    Overloaded,
    Problem,
    ResponseError,
    ServerError,
    TimedOut,
    Unauthorized,
    UnexpectedAnswer,
    Violation,
)
from credit_scoring_client.retry import Clock, Retry

__all__ = [
    "AlternativeApplication",
    "AsyncClient",
    "BatchResult",
    "ChangedValue",
    "Client",
    "ClientError",
    "Clock",
    "ConnectionFailed",
    "CreditDecision",
    "DecisionName",
    "DecisionReason",
    "ExplainedDecision",
    "InvalidRequest",
    "Overloaded",
    "Override",
    "Problem",
    "ReachingChanges",
    "ReasonContribution",
    "RejectedApplication",
    "ResponseError",
    "Retry",
    "RiskLevelName",
    "ServerError",
    "TimedOut",
    "Unauthorized",
    "UnexpectedAnswer",
    "Violation",
    "__version__",
]
