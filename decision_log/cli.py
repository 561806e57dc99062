"""Commands about the decision log itself, which `python -m scoring` offers beside its own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decision_log.errors import SourceError
from decision_log.format import client_hash
from decision_log.notary import Notary, Vault
from jobs.commandline import PATH, Command, Progress, moment, say, table
from jobs.output import write_json, write_text
from scoring.store import public_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from decision_log.reader import Referral

DIFFERS = 3
"""Exit code of a command that did its work and found records that are not as they should be."""

_VERIFY_ENDS = "exit code: 0 all is well, 3 something is wrong, 1 an error, said in one line, 2 wrong usage"
_REPLAY_ENDS = (
    "exit code: 0 all is as recorded, 3 something differs, 1 an error, or nothing can be replayed, 2 wrong usage"
)
_log = click.option("--log", "folder", type=PATH, required=True, metavar="DIR", help="the decision log")
_checkpoints = click.option("--checkpoints", "address", required=True, metavar="WHERE",
                            help="folder or fsspec address that the checkpoints are kept at")  # fmt: skip
_keys = click.option("--key", "keys", type=PATH, required=True, multiple=True, metavar="PUBLIC.pem",
                     help="key that verifies the checkpoints; again for each older one")  # fmt: skip


@click.command(cls=Command, epilog=_VERIFY_ENDS)
@_log
@_checkpoints
@_keys
def verify(*, folder: Path, address: str, keys: Sequence[Path]) -> int:
    """Hold a decision log against its checkpoints, and name the first record that differs."""
    from decision_log.proofs import verify_log

    vault, signers = Vault(address), [public_key(key) for key in keys]
    with Progress().step("records") as advance:
        found = verify_log(folder, vault, signers, advance)
    say(f"wrong: {finding}" for finding in found.findings)
    say(f"note: {remark}" for remark in found.remarks)
    for count, became in ((found.erased, "erased"), (found.expired, "removed for their age")):
        say([f"note: {count:,} records were {became}"] if count else [])
    looked_at = f"{found.records:,} records in {found.segments:,} segments"
    say([f"{looked_at}; checkpoints cover {found.covered:,} of them; {len(found.findings):,} things are wrong"])
    return DIFFERS if found.findings else 0


@click.command(cls=Command)
@click.argument("request_id")
@click.option("--index", type=int, metavar="N", help="position of the application in its request")
@_log
@_checkpoints
@_keys
@click.option("--output", type=PATH, metavar="FILE", help="where the proof goes (default: standard output)")
def prove(
    *, request_id: str, index: int | None, folder: Path, address: str, keys: Sequence[Path], output: Path | None
) -> None:
    """Write a proof that the record of REQUEST_ID is what was signed; examples/verify_proof.py checks it."""
    from decision_log.proofs import prove as proof_of

    signers = [public_key(key) for key in keys]
    proof = json.dumps(proof_of(folder, Vault(address), signers, request_id, index), indent=1) + "\n"
    if output is None:
        sys.stdout.write(proof)
    else:
        write_text(output, proof)


@click.command(cls=Command)
@_log
@click.option("--since", type=moment, metavar="TIME", help="decisions from then on: RFC 3339, or a date (UTC)")
@click.option("--json", "as_json", is_flag=True, help="print a JSON list, with the seconds that each has waited")
def referrals(*, folder: Path, since: datetime | None, as_json: bool) -> None:
    """List the referred applications that no person has decided yet, oldest first."""
    from decision_log.reader import DecisionLogReader, open_referrals

    log, now = DecisionLogReader(folder, since=since), datetime.now(UTC)
    found = open_referrals(log)
    if as_json:
        rows = [{**asdict(one), "time": one.time.isoformat(), "waiting": one.waiting(now)} for one in found]
        say([json.dumps(rows, indent=1)])
    else:
        head = ("request_id", "index", "time", "PD", "points", "risk_level", "waiting")
        say(table([head, *(_cells(one, now) for one in found)], right={1, 3, 4, 6}))
    sys.stderr.write("".join(f"warning: {line}\n" for line in log.remarks()))


def _cells(one: Referral, now: datetime) -> tuple[str, ...]:
    points = "-" if one.points is None else str(one.points)
    hours, seconds = divmod(int(one.waiting(now)), 3600)
    waiting = f"{hours}:{seconds // 60:02}"
    time = f"{one.time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return one.request_id, str(one.index), time, f"{one.probability:.4f}", points, one.risk_level, waiting


@click.command(cls=Command)
@click.option("--client", "client_id", required=True, metavar="ID", help="whose records are destroyed")
@_log
def erase(*, client_id: str, folder: Path) -> None:
    """Destroy the records of one client for good; their hashes stay, so that all other records still prove.

    It needs the key of client ids (DECISION_LOG_KEY or DECISION_LOG_KEY_FILE), and where the log has checkpoints
    RECORD_KEY_FILE and RECORD_CHECKPOINTS.
    """
    from decision_log.erasure import erase as destroy

    client = client_hash(os.environ).digest(client_id)
    done = destroy(folder, client, Notary.of(os.environ, folder), datetime.now(UTC))
    say([f"{done.records:,} records in {done.segments:,} segments and {done.overrides:,} overrides were destroyed"])
    say([f"{done.shadow:,} records of challengers in shadow were destroyed"] if done.shadow else [])
    if done.aside:
        sys.stderr.write(f"warning: {done.aside:,} files in {folder}/aside were not read: they may hold records\n")


@click.command(cls=Command, epilog=_REPLAY_ENDS)
@_log
@click.option("--since", type=moment, metavar="TIME", help="decisions from then on: RFC 3339, or a date (UTC)")
@click.option("--until", type=moment, metavar="TIME", help="decisions before then")
@click.option("--json", "found", type=PATH, metavar="FILE", help="write everything that was found there as well")
def replay(*, folder: Path, since: datetime | None, until: datetime | None, found: Path | None) -> int:
    """Compute recorded decisions again with the models that made them, bit for bit."""
    from decision_log.reader import DecisionLogReader
    from decision_log.replay import replay as replay_log

    log = DecisionLogReader(folder, since=since, until=until)
    with Progress().step("decisions") as advance:
        replayed = replay_log(log, advance)
    if found:
        write_json(found, replayed.to_dict())
    say(replayed.lines())
    sys.stderr.write("".join(f"warning: {line}\n" for line in log.remarks()))
    if not replayed.replayed:
        raise SourceError(f"{folder}: no decision can be replayed")
    return 0 if replayed.proven else DIFFERS


COMMANDS = (verify, prove, replay, erase, referrals)
