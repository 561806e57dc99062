"""Loads models from the BentoML model store or a folder, and verifies digests, signatures, and who may stand in."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from features.errors import ColumnsError
from features.portfolio import Portfolio
from features.transformer import Columns
from jobs.output import write_text, writing
from jobs.settings import read_regular
from scoring.artefact import Artefact, read_portfolio
from scoring.errors import ArtefactError, SignatureError
from scoring.scorer import Scorer

if TYPE_CHECKING:
    import bentoml
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


DIGEST_VARIABLE = "CREDIT_SCORING_DIGEST"
"""The environment variable with the digest, 64 hexadecimal digits, of the only model that may be loaded."""

SIGNER_VARIABLE = "CREDIT_SCORING_SIGNER"
"""The environment variable that names the file of the public key; it must verify every loaded model."""

SIGNATURE = "signature.json"
"""The file beside the artefact with its statement and the signature of the statement."""

REPORT = "report.html"
"""The report of a model, beside its artefact."""

_LABEL_DIGITS = 32
_UNREGISTERED = "0"
"""The version, before the digest, of a model in a folder whose name tells none: MLflow counts from 1."""

_PURPOSE = b"credit scoring model, statement 1\n"
"""The first bytes of every signed text: a signature that the same key made for another purpose does not fit."""

# Bounds: a file that somebody else puts in the place must not fill the memory.
_KEY_BYTES = 1 << 14
_REPORT_BYTES = 1 << 28
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""No version in the store begins with a letter."""
_ALIAS_BYTES = 1 << 10
_LATEST = "latest"
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A verified scorer with its version, `<registered version>-<first 32 digits of the digest>`."""

    name: str
    version: str
    scorer: Scorer


def require_application_only(served: StoredModel, champion: StoredModel) -> None:
    """Raise ColumnsError unless the model can decide in the champion's place where no history is known."""
    artefact, ours = served.scorer.artefact, champion.scorer.artefact.portfolio
    if artefact.portfolio.name != ours.name:
        raise ColumnsError(f"it is of the portfolio {artefact.portfolio.name}, and the champion of {ours.name}")
    if tables := artefact.features.histories:
        raise ColumnsError(f"it reads the histories {', '.join(tables)}")
    require_columns(served, champion)
    require_reasons(served, champion)


def require_columns(challenger: StoredModel, champion: StoredModel) -> None:
    """Raise ColumnsError unless the challenger reads columns of the champion's portfolio alone."""
    schema = champion.scorer.artefact.portfolio.schema
    numbers, levels = np.empty((0, len(schema.numeric))), np.empty((0, len(schema.categorical)), dtype=object)
    none = Columns(numbers, levels, champion.scorer.artefact.portfolio)
    none.declared_by(challenger.scorer.artefact.portfolio)


def require_reasons(served: StoredModel, champion: StoredModel) -> None:
    """Raise ColumnsError if a model gives no reasons where the champion does."""
    if champion.scorer.explainer is not None and served.scorer.explainer is None:
        raise ColumnsError("it gives no reasons, and the champion does")


def load_stored(tag: str, *, threads: int = 1, environment: Mapping[str, str] = os.environ) -> StoredModel:
    """The model of this tag, `name`, `name:version` or `name:alias`; inside a Bento, the version it was built with.

    ArtefactError unless it is there, has the digest and the report of its import, and is the one that the environment
    trusts; see `Trust`.
    """
    name, version, artefact = load_artefact(tag, environment=environment)
    return StoredModel(name, version, Scorer(artefact, threads=threads))


def load_folder(
    folder: Path, *, digest: str | None = None, threads: int = 1, environment: Mapping[str, str] = os.environ
) -> StoredModel:
    """The model in a folder, such as a copy of the store's on a volume that every machine of a cluster mounts.

    It has the version that the store gave it as long as its folder has that name, and else `0-<digits of the digest>`.
    ArtefactError unless it is undamaged, has the `digest`, and is the one that the environment trusts; see `Trust`.
    """
    artefact = Artefact.read(folder, digest=digest)
    placed = folder.resolve()
    name, registered = placed.parent.name, placed.name.rpartition("-")[0]
    named = (name, placed.name) if placed.name == Statement(name, registered, artefact.digest, None).label else None
    Trust.of(environment).require(folder, artefact.digest, named=named)
    name, version = named or (placed.name, Statement(name, _UNREGISTERED, artefact.digest, None).label)
    return StoredModel(name, version, Scorer(artefact, threads=threads))


def load_artefact(tag: str, *, environment: Mapping[str, str] = os.environ) -> tuple[str, str, Artefact]:
    """Name, version and artefact of the model of this tag, verified as in `load_stored` but not made ready to score."""
    trust = Trust.of(environment)
    model = _stored_model(tag)
    name, version, folder = model.tag.name, str(model.tag.version), Path(model.path)
    digest, report = str(model.info.metadata.get("digest")), model.info.metadata.get("report")
    # BentoML 1.4 does not check a model's files; the version in its tag is what a Bento pins.
    registered = version.rpartition("-")[0]
    if not _DIGEST.fullmatch(digest) or version != Statement(name, registered, digest, None).label:
        raise ArtefactError(f"{name}:{version}: the version does not carry the digest; import the model again")
    artefact = Artefact.read(folder, digest=digest)
    if report_digest(folder) != report:
        raise ArtefactError(f"{name}:{version}: {REPORT} is not the one that the model was imported with")
    trust.require(folder, digest, named=(name, version))
    return name, version, artefact


def load_portfolio(tag: str) -> tuple[str, Portfolio]:
    """The exact tag and the portfolio of the model that `load_stored` would load; ArtefactError if it is damaged."""
    model = _stored_model(tag)
    return str(model.tag), read_portfolio(Path(model.path))


def write_alias(name: str, alias: str, version: str | None) -> None:
    """Let `<name>:<alias>` mean this version of a model in the BentoML store; None takes the alias away.

    ArtefactError if the alias is `latest` or no word of lower-case letters, or if the version is not in the store;
    OutputError if the store cannot be written.
    """
    place = _alias_file(name, alias)
    if version is None:
        with writing(place):
            place.unlink(missing_ok=True)
        return
    if not _is_tag(f"{name}:{version}") or not (place.parent / version).is_dir():
        raise ArtefactError(f"{name}:{version}: not in the BentoML model store, so no alias can mean it")
    write_text(place, f"{version}\n")


def read_alias(name: str, alias: str) -> str | None:
    """The version that `<name>:<alias>` means in the BentoML store; None if there is no such alias."""
    place = _alias_file(name, alias)
    try:
        version = read_regular(place, _ALIAS_BYTES).decode(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ArtefactError(f"{place}: {_reason(error)}") from None
    if not _is_tag(f"{name}:{version}"):
        raise ArtefactError(f"{place}: holds no version")
    return version


def _alias_file(name: str, alias: str) -> Path:
    """The file of an alias: BentoML 1.4 has none but `latest`, and passes over other files beside it."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    if not _is_tag(name) or ":" in name:
        raise ArtefactError(f"{name!r}: not the name of a model")
    if not _ALIAS.fullmatch(alias) or alias == _LATEST:
        raise ArtefactError(f"{alias!r}: not an alias; an alias is a word of lower-case letters other than {_LATEST}")
    return Path(BentoMLContainer.bentoml_home.get()) / "models" / name / alias


def _without_alias(tag: str) -> str:
    """The tag with the version in the place of an alias."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    name, _, alias = tag.partition(":")
    # A Bento may pin a version under the same name as the alias: then that one is meant.
    if tag in BentoMLContainer.model_aliases.get() or alias == _LATEST or not _ALIAS.fullmatch(alias):
        return tag
    version = read_alias(name, alias)
    return tag if version is None else f"{name}:{version}"


@dataclass(frozen=True, slots=True)
class Statement:
    """The statement that a signer signs about a model.

    Attributes
    ----------
    name, version : name and version of the registered model; the name is that of the BentoML store
    digest : digest of the artefact
    report : SHA-256 of the model's report; None for a model without one
    """

    name: str
    version: str
    digest: str
    report: str | None

    @property
    def label(self) -> str:
        """Version and digest in one word: the version in the BentoML store, at most 63 characters.

        It holds 128 bits of the digest: nobody can make a second artefact with the same label.

        >>> Statement("model", "3", "0123456789abcdef" * 4, None).label
        '3-0123456789abcdef0123456789abcdef'
        """
        return f"{self.version}-{self.digest[:_LABEL_DIGITS]}"

    def encode(self) -> bytes:
        """The bytes that are signed."""
        return _PURPOSE + json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file; SignatureError if the file has no such key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    def load(content: bytes) -> Ed25519PrivateKey | None:
        found = load_pem_private_key(content, None)
        return found if isinstance(found, Ed25519PrivateKey) else None

    return _key(path, load, "an Ed25519 private key without a passphrase, in PEM")


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file; SignatureError if the file has no such key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    def load(content: bytes) -> Ed25519PublicKey | None:
        found = load_pem_public_key(content)
        return found if isinstance(found, Ed25519PublicKey) else None

    return _key(path, load, "an Ed25519 public key in PEM")


def sign(statement: Statement, key: Path) -> str:
    """The signature by the private key in a PEM file, hexadecimal; SignatureError if the file has no such key."""
    return private_key(key).sign(statement.encode()).hex()


def verify(statement: Statement, signature: str, signer: Path) -> None:
    """Raise SignatureError unless the signature of the statement fits the public key in a PEM file."""
    from cryptography.exceptions import InvalidSignature

    public = public_key(signer)
    try:
        public.verify(bytes.fromhex(signature), statement.encode())
    except (InvalidSignature, ValueError):
        raise SignatureError(f"not signed by the key in {signer}") from None


def write_signature(folder: Path, statement: Statement, signature: str) -> None:
    """Put a signed statement beside the artefact in `folder`."""
    content = {**asdict(statement), "signature": signature}
    (folder / SIGNATURE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True, slots=True)
class Trust:
    """The proofs that a model must give before it is used; none where both are None.

    Attributes
    ----------
    digest : digest of the only model that may be used
    signer : PEM file of the public key that must verify its signature
    """

    digest: str | None = None
    signer: Path | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The proofs that the environment asks for; SignatureError for a variable without a digest or a file name."""
        digest, signer = environment.get(DIGEST_VARIABLE), environment.get(SIGNER_VARIABLE)
        # A variable that is empty by mistake must not switch the check off.
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise SignatureError(f"{DIGEST_VARIABLE}: must be a whole digest, 64 hexadecimal digits in lower case")
        if signer is not None and not signer:
            raise SignatureError(f"{SIGNER_VARIABLE}: must name the PEM file of an Ed25519 public key")
        return cls(digest, None if signer is None else Path(signer))

    def require(self, folder: Path, digest: str, *, named: tuple[str, str] | None = None) -> None:
        """Raise SignatureError unless the model in `folder` is the trusted one.

        Parameters
        ----------
        digest : digest of the artefact in the folder
        named : name and label of the model in its store; None for a folder outside a store
        """
        if self.digest is not None and digest != self.digest:
            raise SignatureError(f"{folder}: its digest is not the one in {DIGEST_VARIABLE}")
        if self.signer is None:
            return
        statement, signature = _signed(folder)
        if statement.digest != digest or statement.report != report_digest(folder):
            raise SignatureError(f"{folder}: the signature belongs to another artefact or another report")
        # An older model with a true signature must not be put in the place of a newer one.
        if named is not None and named != (statement.name, statement.label):
            raise SignatureError(f"{folder}: the signature belongs to {statement.name}:{statement.label}")
        try:
            verify(statement, signature, self.signer)
        except SignatureError as error:
            raise SignatureError(f"{folder}: {error}") from None


def report_digest(folder: Path) -> str | None:
    """SHA-256 of the report in `folder`, hexadecimal; None if there is none."""
    try:
        return hashlib.sha256(read_regular(folder / REPORT, _REPORT_BYTES)).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignatureError(f"{folder / REPORT}: {_reason(error)}") from None


def _signed(folder: Path) -> tuple[Statement, str]:
    try:
        content = json.loads(read_regular(folder / SIGNATURE, _KEY_BYTES))
        signature = content.pop("signature")
        statement = Statement(**content)
    except FileNotFoundError:
        raise SignatureError(f"{folder}: is not signed ({SIGNATURE} is missing)") from None
    except OSError as error:
        raise SignatureError(f"{folder / SIGNATURE}: {_reason(error)}") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise SignatureError(f"{folder / SIGNATURE}: is not a signed statement") from None
    if not all(isinstance(part, str) for part in (statement.name, statement.version, statement.digest, signature)):
        raise SignatureError(f"{folder / SIGNATURE}: is not a signed statement")
    return statement, signature


def _key(path: Path, load: Callable[[bytes], _Key | None], kind: str) -> _Key:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        found = load(read_regular(path, _KEY_BYTES))
    except OSError as error:
        raise SignatureError(f"{path}: {_reason(error)}") from None
    except (TypeError, ValueError, UnsupportedAlgorithm):
        found = None
    if found is None:
        raise SignatureError(f"{path}: is not {kind}")
    return found


def _reason(error: OSError) -> str:
    return f"cannot be read ({error.strerror})"


def _stored_model(tag: str) -> bentoml.Model:
    import bentoml
    from bentoml.exceptions import NotFound

    if not _is_tag(tag):
        raise ArtefactError(f"{tag!r}: not a tag; a tag is name or name:version")
    exact = _without_alias(tag)
    try:
        return bentoml.models.get(exact)
    except NotFound:
        raise ArtefactError(f"{tag}: not in the BentoML model store; `python -m training run` puts it there") from None
    except OSError as error:
        raise ArtefactError(f"the BentoML model store cannot be read: {error.filename}: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - BentoML raises any error for a model.yaml that it did not write
        reason = type(error).__name__
        raise ArtefactError(f"{tag}: its model.yaml in the BentoML store cannot be read ({reason})") from None


def _is_tag(text: str) -> bool:
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        bentoml.Tag.from_str(text)
    except (BentoMLException, ValueError):
        return False
    return True
