"""The BentoML model store: its latest version of the model is the champion, which `bentoml serve` and `build` take."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import bentoml
import mlflow
import numpy as np
import pandas as pd
from bentoml.exceptions import BentoMLException, NotFound
from numpy.typing import NDArray

from features import APPLICATION, open_file
from scoring import Artefact, Scorer
from training.errors import ParityError
from training.synthesis import APPLICATIONS, synthesize

from .registry import Registered, artefact_folder, download, report_file

PARITY_CLIENTS = 1_000
"""Generated applications on which the registered and the imported form of a model are compared."""

_PARITY_SEED = 20_180_517


def import_model(registered: Registered) -> bentoml.Tag:
    """The tag of the imported model, `<name>:<version>-<first 32 digits of the digest>`, now the latest of its name.

    ParityError, and no import, unless the imported scorer gives the registered model's probabilities bit for bit on
    1,000 generated applications. Importing what is the latest already checks it again and changes nothing. The report
    of the model comes along: a Bento holds it with the model.

    BentoML calls the version that was created last the latest. An older version that is to be served again is therefore
    created anew: until that is done, what was served before stays the latest.
    """
    tag = bentoml.Tag.from_str(registered.tag)
    with tempfile.TemporaryDirectory() as scratch:
        downloaded = download(registered, Path(scratch))
        artefact = checked(registered, downloaded)
        report = report_file(artefact.parent, registered)
        if _latest(registered.name) == tag:
            stored = Path(bentoml.models.get(tag).path)
            Artefact.read(stored, digest=registered.digest)
            report_file(stored, registered)
            return tag
        _discard(tag)
        try:
            with bentoml.models.create(tag, metadata=_metadata(registered)) as model:
                shutil.copytree(artefact, model.path, dirs_exist_ok=True)
                if report is not None:
                    shutil.copy(report, model.path)
        except BaseException:
            _discard(tag)
            raise
    return tag


def checked(registered: Registered, model: Path) -> Path:
    """The artefact of the registered model, downloaded into `model`; ParityError if the two do not score alike."""
    artefact = artefact_folder(model, registered)
    differing = differing_probabilities(model, artefact)
    if differing:
        raise ParityError(f"{registered.uri}: {differing} of {PARITY_CLIENTS} probabilities differ after the import")
    return artefact


def differing_probabilities(model: Path, artefact: Path) -> int:
    """On how many of 1,000 generated applications the downloaded MLflow model and the artefact's scorer differ."""
    with tempfile.TemporaryDirectory() as scratch:
        applications = _applications(Path(scratch) / "parity")
        expected = _registered_probabilities(model, applications)
        scorer = Scorer(Artefact.read(artefact))
        batches = open_file(applications).batches(PARITY_CLIENTS)
        probability = np.concatenate([scorer.score(batch.columns).probability for batch in batches])
        return int(np.count_nonzero(probability != expected))


def _metadata(registered: Registered) -> dict[str, str]:
    report = {} if registered.report is None else {"report": registered.report}
    return {
        "digest": registered.digest,
        **report,
        "registered_model": registered.name,
        "registered_version": registered.version,
        "run_id": registered.run_id,
    }


def _latest(name: str) -> bentoml.Tag | None:
    try:
        return bentoml.models.get(name).tag
    except BentoMLException:
        return None


def _discard(tag: bentoml.Tag) -> None:
    """Remove a version, whole or half written."""
    with suppress(NotFound):
        bentoml.models.delete(tag)


def _applications(folder: Path) -> Path:
    synthesize(folder, clients=PARITY_CLIENTS, seed=_PARITY_SEED, file_format="parquet", tables=APPLICATIONS)
    return folder / "application_train.parquet"


def _registered_probabilities(model: Path, applications: Path) -> NDArray[np.float64]:
    frame = pd.read_parquet(applications, columns=[column.name for column in APPLICATION])
    answers = mlflow.pyfunc.load_model(str(model)).predict(frame)
    return np.asarray(answers["probability"], dtype=np.float64)
