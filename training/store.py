"""Importing a registered model into the BentoML model store, under an exact version and with a parity check."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import bentoml
import mlflow
import numpy as np
import pandas as pd
from bentoml.exceptions import NotFound
from numpy.typing import NDArray

from features import APPLICATION, open_file
from scoring import Artefact, Scorer

from .errors import ParityError
from .registry import Registered, download
from .synthesis import APPLICATIONS, synthesize

_PARITY_CLIENTS = 1_000
_PARITY_SEED = 20_180_517


def import_model(registered: Registered) -> bentoml.Tag:
    """The tag of the imported model, `<name>:<version>-<first 12 digits of the digest>`.

    ParityError, and no import, unless the imported scorer gives the registered model's probabilities bit for bit on
    1,000 generated applications. Importing a version that is there already checks it again and changes nothing.
    """
    tag = bentoml.Tag(registered.name, registered.label)
    with tempfile.TemporaryDirectory() as scratch:
        artefact = download(registered, Path(scratch))
        applications = _applications(Path(scratch) / "parity")
        expected = _registered_probabilities(registered, applications)
        if _stored(tag):
            _check_parity(Path(bentoml.models.get(tag).path), applications, expected, registered)
            return tag
        with bentoml.models.create(tag, labels={"stage": "imported"}, metadata=_metadata(registered)) as model:
            shutil.copytree(artefact, model.path, dirs_exist_ok=True)
            _check_parity(Path(model.path), applications, expected, registered)
    return tag


def _metadata(registered: Registered) -> dict[str, str]:
    return {
        "digest": registered.digest,
        "registered_model": registered.name,
        "registered_version": registered.version,
        "run_id": registered.run_id,
    }


def _stored(tag: bentoml.Tag) -> bool:
    try:
        bentoml.models.get(tag)
    except NotFound:
        return False
    return True


def _applications(folder: Path) -> Path:
    synthesize(folder, clients=_PARITY_CLIENTS, seed=_PARITY_SEED, file_format="parquet", tables=APPLICATIONS)
    return folder / "application_train.parquet"


def _registered_probabilities(registered: Registered, applications: Path) -> NDArray[np.float64]:
    frame = pd.read_parquet(applications, columns=[column.name for column in APPLICATION])
    answers = mlflow.pyfunc.load_model(registered.uri).predict(frame)
    return np.asarray(answers["probability"], dtype=np.float64)


def _check_parity(model: Path, applications: Path, expected: NDArray[np.float64], registered: Registered) -> None:
    scorer = Scorer(Artefact.read(model, digest=registered.digest))
    batches = open_file(applications).batches(len(expected))
    probability = np.concatenate([scorer.score(batch.columns).probability for batch in batches])
    differing = int(np.count_nonzero(probability != expected))
    if differing:
        raise ParityError(f"{registered.uri}: {differing} of {len(expected)} probabilities differ after the import")
