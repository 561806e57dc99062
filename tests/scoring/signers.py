"""Keys with which models are signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True)
class Signer:
    """A pair of keys, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them."""

    private: Path
    public: Path

    @classmethod
    def made(cls, folder: Path, name: str) -> Self:
        """A new pair in two files of the folder."""
        key = Ed25519PrivateKey.generate()
        pair = cls(folder / f"{name}.key", folder / f"{name}.pem")
        pair.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pair.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return pair
