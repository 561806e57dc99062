"""Checks the proof of one decision: `python verify_proof.py PROOF.json PUBLIC.pem`. It needs `cryptography` alone."""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key


def fault(proof: dict[str, Any], pem: bytes) -> str | None:
    """What is wrong with the proof; None if it holds."""
    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        return "the key is not an Ed25519 key"
    text, _, signature = proof["checkpoint"].rpartition("\n\n")
    origin, size, root = text.split("\n")[:3]
    try:
        # the last 64 bytes of the signature line; before them are 4 that name the key
        signed = base64.b64decode(signature.split()[-1])[4:]
        key.verify(signed, f"{text}\n".encode())
    except InvalidSignature:
        return "the checkpoint is not signed by this key"
    index, last = proof["index"], int(size) - 1
    if not 0 <= index <= last or not origin.startswith("credit-scoring-decision-log/"):
        return "the record is not one of those that the checkpoint covers"
    node = hashlib.sha256(b"\0" + proof["line"].encode()).digest()  # RFC 6962, then RFC 9162, 2.1.3.2
    for beside in map(bytes.fromhex, proof["path"]):
        if index & 1 or index == last:
            node = hashlib.sha256(b"\1" + beside + node).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + beside).digest()
        index, last = index >> 1, last >> 1
    return None if last == 0 and node == base64.b64decode(root) else "the record is not the one that was signed"


if __name__ == "__main__":
    wrong = fault(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).read_bytes())
    sys.stdout.write(f"{wrong or 'the record is what was signed'}\n")
    sys.exit(1 if wrong else 0)
