"""The plan as Markdown, put into docs/how-to/capacity.md."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median

from benchmarks.results import Comparison
from deploy.capacity.plan import Demand, Plan, plan, pod_load
from deploy.capacity.settings import CapacitySettings
from deploy.errors import DeployError
from jobs.output import write_text

_SERVICE = "service"
_BEGIN, _END = "<!-- capacity -->", "<!-- /capacity -->"
_HEAD = ("decisions/s", "pods", "utilisation", "with one pod lost", "USD per million decisions")


def demand(comparison: Comparison) -> Demand:
    """What a decision takes: the median over the rounds of the open loop, where requests come one by one."""
    rounds = [round_ for peer in comparison.peers if peer.name == _SERVICE for round_ in peer.rounds]
    measured = [round_.open.cpu_us for round_ in rounds if round_.open is not None]
    if not measured:
        raise DeployError(f"the results have no open loop of the peer {_SERVICE}")
    return Demand(median(measured), comparison.model.application_bytes)


def section(comparison: Comparison, settings: CapacitySettings) -> str:
    """The tables and what they rest on."""
    taken = demand(comparison)
    plans = [plan(load, taken, settings) for load in settings.loads]
    sustained = next(r.open for p in comparison.peers if p.name == _SERVICE for r in p.rounds if r.open)
    share = comparison.settings["open_loop"]["saturation"]
    measured = (
        f"Measured on {comparison.measured_at[:10]} by `{comparison.command}` on {comparison.machine.processor}: a"
        f" decision takes {taken.cpu_us:.0f} µs of a processor and {taken.request_bytes:,} bytes of request, where"
        f" requests arrive by themselves at {share:.0%} of saturation ({sustained.throughput:,.0f} a second)."
    )
    held = (
        f"One pod of {settings.pod.cores:g} core is held at {settings.utilisation:.0%}, which is"
        f" {pod_load(taken, settings):,.0f} decisions a second."
    )
    prices = f"Prices: {settings.prices.source}, as of {settings.prices.as_of}."
    return "\n\n".join([measured, held, table(plans, settings), prices])


def table(plans: Iterable[Plan], settings: CapacitySettings) -> str:
    """One line for each load; more pods than autoscaling may start are marked."""
    rows = [_HEAD, ("---:",) * len(_HEAD), *(_row(planned, settings) for planned in plans)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(planned: Plan, settings: CapacitySettings) -> tuple[str, ...]:
    beyond = f" (above the limit of {settings.pods.max})" if planned.pods > settings.pods.max else ""
    return (
        f"{planned.load:,g}" if planned.load < 1000 else f"{planned.load:,.0f}",
        f"{planned.pods}{beyond}",
        f"{planned.utilisation:.0%}",
        f"{planned.without_one:.0%}",
        f"{planned.usd_per_million:,.3f}",
    )


def put(text: str, page: Path) -> None:
    """Replace what stands between the marks of a page; DeployError if it has none."""
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    head, begin, rest = old.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise DeployError(f"{page}: no lines {_BEGIN} and {_END}")
    write_text(page, f"{head}{_BEGIN}\n{text}\n{_END}{tail}")
