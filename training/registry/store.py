"""The BentoML model store holds the champion as its latest version, which `bentoml serve` and `build` take."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import bentoml
import lightgbm as lgb
import numpy as np
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import NotFound

from features.drawing import draw_legal
from jobs.output import locked
from scoring.artefact import Artefact
from scoring.errors import ConformanceError
from scoring.scorer import Scorer
from scoring.store import Trust, read_alias, write_alias, write_signature
from training.errors import ParityError, RegistryError
from training.registry.registry import CHALLENGER, Registered, artefact_folder, download, report_file, signature_of

PARITY_CLIENTS = 1_000
"""How many drawn applications LightGBM and the scorer are compared on."""

SIGNING_KEY_VARIABLE = "CREDIT_SCORING_SIGNING_KEY"
"""The environment variable that names the PEM file of the private key that signs promoted models."""

_PARITY_SEED = 20_180_517
_LOCK = ".champion.lock"
_MODEL_FILE, _POINTER = "model.yaml", "latest"
_NEVER_LATEST = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of creation of a challenger in the store: BentoML serves the version created last."""


@contextmanager
def champion_lock() -> Iterator[None]:
    """Hold the lock under which one command at a time changes the champion in registry and store; others wait."""
    # The system lets the lock go when its process ends, so a killed command holds nobody up.
    home = Path(BentoMLContainer.bentoml_home.get())
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / _LOCK):
        yield


def import_model(registered: Registered, environment: Mapping[str, str] = os.environ) -> bentoml.Tag:
    """Import a model as the latest of its name; its tag is `<name>:<version>-<first 32 digits of the digest>`.

    Only the verified artefact, report and signature are copied; no code that MLflow keeps is run. ParityError, and no
    import, unless this code gives the scores of the training code. SignatureError if the environment asks for a
    signature that the version lacks. If the model is the latest already, it is checked again, and replaced if it was
    altered or cannot be read. The alias `challenger` of the store no longer means it.
    """
    tag = bentoml.Tag.from_str(registered.tag)
    _make_readable(tag)
    _stored(registered, tag, environment, in_charge=True)
    if read_alias(tag.name, CHALLENGER) == tag.version:
        write_alias(tag.name, CHALLENGER, None)
    return tag


def import_challenger(registered: Registered, environment: Mapping[str, str] = os.environ) -> bentoml.Tag:
    """Import a model beside the one that is served; the store's alias `challenger` then means it.

    It is verified as `import_model` does. RegistryError if the store serves no model yet: then it would serve this one.
    """
    tag = bentoml.Tag.from_str(registered.tag)
    _make_readable(tag)
    if served_version(registered.name) in (None, tag):
        raise RegistryError(f"{registered}: is no challenger, since this machine's BentoML store serves no other model")
    _stored(registered, tag, environment, in_charge=False)
    write_alias(tag.name, CHALLENGER, str(tag.version))
    return tag


def _stored(registered: Registered, tag: bentoml.Tag, environment: Mapping[str, str], *, in_charge: bool) -> None:
    """Put a verified version into the store, unless it is there as it must be."""
    with tempfile.TemporaryDirectory() as scratch:
        ready = _staged_version(registered, Path(scratch))
        Trust.of(environment).require(ready, registered.digest, named=(tag.name, str(tag.version)))
        placed = served_version(registered.name) == tag if in_charge else _is_readable(tag)
        if placed and _same(ready, bentoml.models.get(tag), registered):
            return
        # BentoML calls the version created last the latest, so an older one is created anew to be served again.
        _discard(tag)
        try:
            with bentoml.models.create(tag, metadata=_metadata(registered)) as model:
                if not in_charge:
                    object.__setattr__(model.info, "creation_time", _NEVER_LATEST)
                shutil.copytree(ready, model.path, dirs_exist_ok=True)
        except BaseException:  # Ctrl-C too: what is half written must not become the latest
            _discard(tag)
            raise


def verified_artefact(registered: Registered, model: Path) -> Path:
    """Verify the artefact of a model downloaded into `model`; ParityError if this code scores it otherwise."""
    artefact = artefact_folder(model, registered)
    try:
        differing = differing_probabilities(artefact)
    except ConformanceError as error:
        raise ParityError(f"{registered}: {error}") from None
    if differing:
        raise ParityError(f"{registered}: {differing} of {PARITY_CLIENTS} probabilities are not those of LightGBM")
    return artefact


def differing_probabilities(artefact: Path) -> int:
    """Count the drawn applications, of 1,000, on which LightGBM's package and the scorer differ.

    ConformanceError if the scorer departs from the artefact's conformance rows.
    """
    # The scorer calls LightGBM's C interface, so the Python package is a second way to the same bits.
    scorer = Scorer(Artefact.read(artefact))
    booster = lgb.Booster(model_str=scorer.artefact.model_text)
    columns = draw_legal(scorer.artefact.portfolio, PARITY_CLIENTS, seed=_PARITY_SEED)
    margins = np.asarray(booster.predict(scorer.transformer.transform(columns), raw_score=True), dtype=np.float64)
    expected = scorer.artefact.calibration.probabilities(margins)
    return int(np.count_nonzero(scorer.score(columns).probability != expected))


def _staged_version(registered: Registered, scratch: Path) -> Path:
    """A folder with the files that the store will hold of a version, each verified."""
    artefact = verified_artefact(registered, download(registered, scratch))
    ready = Path(shutil.copytree(artefact, scratch / "ready"))
    report, signature = report_file(artefact.parent, registered), signature_of(registered)
    if report is not None:
        shutil.copy(report, ready)
    if signature is not None:
        write_signature(ready, registered.statement, signature)
    return ready


def _same(ready: Path, stored: bentoml.Model, registered: Registered) -> bool:
    """Whether the stored files and metadata are exactly those of the version."""
    folder = Path(stored.path)
    names = {file.name for file in ready.iterdir()}
    if names | {_MODEL_FILE} != {file.name for file in folder.iterdir()}:
        return False
    same = all(
        (folder / name).is_file() and (folder / name).read_bytes() == (ready / name).read_bytes() for name in names
    )
    return same and dict(stored.info.metadata) == _metadata(registered)


def _metadata(registered: Registered) -> dict[str, str]:
    report = {} if registered.report is None else {"report": registered.report}
    return {
        "digest": registered.digest,
        **report,
        "registered_model": registered.name,
        "registered_version": registered.version,
        "run_id": registered.run_id,
    }


def served_version(name: str) -> bentoml.Tag | None:
    """Return the tag of the version that this user's BentoML store serves; None if none can be read."""
    try:
        return bentoml.models.get(name).tag
    except Exception:  # noqa: BLE001 - a file that is none of BentoML's makes it raise whatever it meets first
        return None


def _make_readable(tag: bentoml.Tag) -> None:
    """Remove half-written versions and a broken copy of this one; RegistryError names another broken version."""
    # BentoML reads every version of a name to find the latest, and fails at the first that it cannot read.
    folder = Path(BentoMLContainer.bentoml_home.get()) / "models" / tag.name
    for version in sorted(folder.iterdir()) if folder.is_dir() else []:
        if version.name == _POINTER or (version.name != tag.version and version.is_file()):  # a file is an alias
            continue
        if _is_readable(bentoml.Tag(tag.name, version.name)):
            continue
        if version.name == tag.version or not (version / _MODEL_FILE).exists():
            shutil.rmtree(version) if version.is_dir() else version.unlink()
        else:
            raise RegistryError(f"{version}: its {_MODEL_FILE} cannot be read; remove this folder, then import again")
    if served_version(tag.name) is None:
        (folder / _POINTER).unlink(missing_ok=True)


def _is_readable(tag: bentoml.Tag) -> bool:
    try:
        return bentoml.models.get(tag).tag == tag
    except Exception:  # noqa: BLE001 - as above
        return False


def _discard(tag: bentoml.Tag) -> None:
    """Remove a version, whole or half written."""
    with suppress(NotFound):
        bentoml.models.delete(tag)
