"""How many pods a load takes, and what its decisions cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deploy.capacity.settings import CapacitySettings

_SECONDS = 3600
_MILLION = 1_000_000
_GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Demand:
    """What one decision takes of a server, as measured.

    Attributes
    ----------
    cpu_us : CPU time, microseconds
    request_bytes : the body of its request
    """

    cpu_us: float
    request_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """For one load.

    Attributes
    ----------
    load : decisions per second
    pods : at the utilisation that is aimed at, and never fewer than the least
    utilisation : of the pods' processors
    without_one : the same when one pod is lost
    usd_per_million : of the pods and the load balancer, for a million decisions at this load
    """

    load: float
    pods: int
    utilisation: float
    without_one: float
    usd_per_million: float


def pod_load(demand: Demand, settings: CapacitySettings) -> float:
    """Decisions per second of one pod at the utilisation that is aimed at."""
    return settings.utilisation * settings.pod.cores * _MILLION / demand.cpu_us


def plan(load: float, demand: Demand, settings: CapacitySettings) -> Plan:
    """The pods and the cost of a steady load.

    The loss of a pod must leave the others below saturation, so that a plan may have one pod more than the load takes.
    """
    cores = load * demand.cpu_us / _MILLION / settings.pod.cores
    pods = max(settings.pods.min, math.ceil(round(cores / settings.utilisation, 9)), math.floor(cores) + 2)
    hourly = pods * _pod_hour(settings) + _balancer_hour(load, demand, settings)
    return Plan(load, pods, cores / pods, cores / (pods - 1), hourly / (load * _SECONDS) * _MILLION)


def _pod_hour(settings: CapacitySettings) -> float:
    return settings.pod.cores * settings.prices.core_hour + settings.pod.memory_gb * settings.prices.gb_hour


def _balancer_hour(load: float, demand: Demand, settings: CapacitySettings) -> float:
    gigabytes = load * _SECONDS * demand.request_bytes / _GIGABYTE
    return settings.prices.balancer_hour + gigabytes * settings.prices.balancer_unit_hour
