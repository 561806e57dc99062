"""Commands about the decision log itself, which `python -m scoring` offers beside its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from decision_log.notary import Vault
from jobs.commandline import PATH, Command, say
from jobs.output import write_text
from jobs.progress import Progress
from scoring.store import public_key

_VERIFY_ENDS = "exit code: 0 all is well, 1 something is wrong or cannot be read, 2 wrong usage"
_log = click.option("--log", "folder", type=PATH, required=True, metavar="DIR", help="the decision log")
_checkpoints = click.option("--checkpoints", "address", required=True, metavar="WHERE",
                            help="folder or fsspec address that the checkpoints are kept at")  # fmt: skip
_key = click.option("--key", type=PATH, required=True, metavar="PUBLIC.pem", help="key that verifies the checkpoints")


@click.command(cls=Command, epilog=_VERIFY_ENDS)
@_log
@_checkpoints
@_key
def verify(*, folder: Path, address: str, key: Path) -> int:
    """Hold a decision log against its checkpoints, and name the first record that differs."""
    from decision_log.proofs import verify_log

    vault, signer = Vault(address), public_key(key)
    with Progress().step("records") as advance:
        found = verify_log(folder, vault, signer, advance)
    say(f"wrong: {finding}" for finding in found.findings)
    say(f"note: {remark}" for remark in found.remarks)
    looked_at = f"{found.records:,} records in {found.segments:,} segments"
    say([f"{looked_at}; checkpoints cover {found.covered:,} of them; {len(found.findings):,} things are wrong"])
    return 1 if found.findings else 0


@click.command(cls=Command)
@click.argument("request_id")
@click.option("--index", type=int, metavar="N", help="position of the application in its request")
@_log
@_checkpoints
@_key
@click.option("--output", type=PATH, metavar="FILE", help="where the proof goes (default: standard output)")
def prove(*, request_id: str, index: int | None, folder: Path, address: str, key: Path, output: Path | None) -> None:
    """Write a proof that the record of REQUEST_ID is what was signed; examples/verify_proof.py checks it."""
    from decision_log.proofs import prove as proof_of

    proof = json.dumps(proof_of(folder, Vault(address), public_key(key), request_id, index), indent=1) + "\n"
    if output is None:
        sys.stdout.write(proof)
    else:
        write_text(output, proof)
