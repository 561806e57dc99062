"""What comes out of MLflow is verified, never run; and what is imported is what was registered."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import bentoml
import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server import parse_csv_input

from features import operations
from scoring.errors import SignatureError
from scoring.store import load_stored
from tests.home_credit import PORTFOLIO
from tests.scoring.signers import Signer
from tests.training.contests import Contest
from tests.training.contests import contest as make_contest
from training.dataset import load_dataset
from training.errors import ParityError, RegistryError
from training.registry import packaging
from training.registry.commands import registry_lines
from training.registry.packaging import package_code
from training.registry.promotion import judge, judged_model, rollback
from training.registry.registry import copy_report
from training.registry.store import import_model
from training.run import Delivered
from training.settings import TrainingSettings


@pytest.fixture(scope="module")
def versions(generated: Path, delivered: Delivered, settings: TrainingSettings) -> Contest:
    return make_contest(load_dataset(generated, PORTFOLIO), delivered.trained, settings, "imported_model")


@pytest.fixture
def contest(versions: Contest) -> Iterator[Contest]:
    versions.reset()
    yield versions
    versions.reset()


@pytest.fixture
def kept(contest: Contest) -> Iterator[Path]:
    """The first version as MLflow keeps it, to be altered."""
    uri = mlflow.MlflowClient().get_model_version_download_uri(contest.name, contest.first.version)
    folder = Path(_place(uri))
    copy = folder.with_name("untouched")
    shutil.copytree(folder, copy)
    yield folder
    shutil.rmtree(folder)
    copy.replace(folder)


def _place(uri: str) -> str:
    model = mlflow.get_logged_model(uri.removeprefix("models:/")) if uri.startswith("models:/") else None
    return (model.artifact_location if model else uri).removeprefix("file://")


def _append(name: str, text: str) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        (file,) = folder.rglob(name)
        file.write_text(file.read_text() + text)

    return alter


def _add(folder: Path) -> None:
    (folder / "code" / "sitecustomize.py").write_text("raise SystemExit('run')\n")


def _remove(folder: Path) -> None:
    (folder / "requirements.txt").unlink()


def _pickle(folder: Path) -> None:
    (folder / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("mlflow.pyfunc.loaders.code_model", "mlflow.pyfunc.model"))


ALTERED = {
    "loader": _append("pyfunc.py", "\nraise SystemExit('run')\n"),
    "code": _append("operations.py", "\nraise SystemExit('run')\n"),
    "requirements": _append("requirements.txt", "\nevil==1\n"),
    "report": _append("report.html", "<p>better</p>"),
    "artefact": _append("policy.json", " "),
    "one file more": _add,
    "one file less": _remove,
    "pickle": _pickle,
    "another flavour": _append("MLmodel", "\nflavors: {sklearn: {pickled_model: model.pkl}}\n"),
    "no MLmodel": lambda folder: (folder / "MLmodel").unlink(),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_a_model_that_was_altered_in_the_artefact_store_is_refused_and_not_run(
    contest: Contest, kept: Path, tmp_path: Path, alter: Callable[[Path], None]
) -> None:
    """Whatever is appended would end this process."""
    contest.promote(contest.first)
    contest.promote(contest.second)
    alter(kept)
    refused = pytest.raises(RegistryError, match=r"^imported_model version 1: (its files|is not a model of the form)")
    for command in (
        lambda: import_model(contest.first),
        lambda: judge(contest.first, contest.dataset, contest.settings),
        lambda: rollback(contest.name, datetime.now(UTC)),
        lambda: copy_report(contest.first, tmp_path / "report.html"),
    ):
        with refused:
            command()
    assert contest.served() == "2"
    assert not (tmp_path / "report.html").exists()


def test_features_that_were_changed_since_the_training_are_noticed(
    contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check does not compare this checkout with itself."""
    original = operations._or_missing
    monkeypatch.setattr(operations, "_or_missing", lambda values, known: 100.0 * original(values, known))
    with pytest.raises(ParityError, match=r"^imported_model version 1: this code computes another \w+ than the code"):
        import_model(contest.first)
    assert contest.served() is None
    new = contest.dataset.ids + 10_000_000
    with pytest.raises(RegistryError, match="version 1 cannot score the rows it was not fitted on"):
        judged_model(contest.first, replace(contest.dataset, ids=new))


def test_two_versions_run_their_own_code_beside_packages_of_the_same_names(
    contest: Contest, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook that has its own `features` and `scoring`; the second version counts ratios in per cent."""
    first, second = _logged_code(tmp_path / "first", None), _logged_code(tmp_path / "second", "100.0 * ")
    assert first.name != second.name
    for package in ("features", "scoring"):
        (tmp_path / "mine" / package).mkdir(parents=True)
        (tmp_path / "mine" / package / "__init__.py").write_text("")
    script = (
        "import sys, features, scoring, importlib, numpy as np\n"
        "values = np.array([[[6.0]], [[3.0]]])\n"
        "for folder in sys.argv[1:]:\n"
        "    parent, _, name = folder.rpartition('/')\n"
        "    sys.path.insert(0, parent)\n"
        "    operations = importlib.import_module(f'{name}.features.operations')\n"
        "    importlib.import_module(f'{name}.scoring')\n"
        "    print(operations.ratio(values, values).item())\n"
        "assert not dir(features) or not hasattr(features, 'APPLICATION')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "mine")}
    command = [sys.executable, "-c", script, str(first), str(second)]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout.split(), ran.stderr) == (["2.0", "200.0"], "")


def _logged_code(scratch: Path, factor: str | None) -> Path:
    """The code as it is logged, of this checkout or of one with other ratios."""
    scratch.mkdir()
    if factor is None:
        return package_code(scratch).folder
    changed = scratch / "checkout"
    for package in ("features", "scoring"):
        shutil.copytree(packaging._ROOT / package, changed / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = changed / "features" / "operations.py"
    file.write_text(file.read_text().replace("return numerator /", f"return {factor}numerator /"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(packaging, "_ROOT", changed)
        packaging.code_digest.cache_clear()
        folder = package_code(scratch).folder
    packaging.code_digest.cache_clear()
    return folder


def test_the_registered_model_answers_where_somebody_has_packages_of_the_same_names(
    contest: Contest, generated: Path, tmp_path: Path
) -> None:
    for package in ("features", "scoring"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    script = (
        "import features, scoring, sys, mlflow, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "print(model.predict(pd.read_csv(sys.argv[3]).head(5)).probability.tolist())\n"
    )
    table = generated / "application_train.csv"
    given = (mlflow.get_tracking_uri(), contest.first.uri, str(table))
    command = [sys.executable, "-W", "ignore", "-c", script, *given]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    expected = mlflow.pyfunc.load_model(contest.first.uri).predict(pd.read_csv(table).head(5)).probability.tolist()
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == expected


def test_csv_is_read_by_mlflow_s_own_server(contest: Contest, generated: Path) -> None:
    """`mlflow models serve` reads text/csv as the model's signature says."""
    model = mlflow.pyfunc.load_model(contest.first.uri)
    table = (generated / "application_train.csv").read_text().splitlines()[:4]
    frame = parse_csv_input(io.StringIO("\n".join(table)), model.metadata.get_input_schema())
    direct = model.predict(pd.read_csv(io.StringIO("\n".join(table))))
    assert model.predict(frame).probability.tolist() == direct.probability.tolist()


def test_a_promoted_model_is_signed_and_one_that_is_not_signed_is_refused(
    contest: Contest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer.made(tmp_path, "ours")
    trusting = {"CREDIT_SCORING_SIGNER": str(signer.public)}
    contest.promote(contest.first)
    with pytest.raises(SignatureError, match=r"is not signed"):
        import_model(contest.first, trusting)
    assert contest.served() == "1"
    monkeypatch.setenv("CREDIT_SCORING_SIGNING_KEY", str(signer.private))
    contest.promote(contest.second)
    assert import_model(contest.second, trusting) == bentoml.Tag.from_str(contest.second.tag)
    signed = json.loads((Path(bentoml.models.get(contest.second.tag).path) / "signature.json").read_text())
    assert (signed["digest"], signed["version"]) == (contest.second.digest, "2")
    mlflow.MlflowClient().set_model_version_tag(contest.name, "2", "signature", "00" * 64)
    with pytest.raises(SignatureError, match="not signed by the key"):
        import_model(contest.second, trusting)
    mlflow.MlflowClient().delete_model_version_tag(contest.name, "2", "signature")


def _damage(name: str, content: bytes | None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / name
        file.write_bytes(file.read_bytes() + b" " if content is None else content)

    return damage


def _rename_report(folder: Path) -> None:
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(re.sub("report: .*", "report: '00'", text))


DAMAGED = {
    **{name: _damage(name, None) for name in ("policy.json", "report.html", "manifest.json")},
    "one file more": _damage("more.txt", b"more"),
    "one file less": lambda folder: (folder / "policy.json").unlink(),
    "another report is named": _rename_report,
    "unclosed": _damage("model.yaml", b"a: ["),
    "empty": _damage("model.yaml", b""),
    "a list": _damage("model.yaml", b"[]"),
    "no version": _damage("model.yaml", b"name: model"),
    "an object": _damage("model.yaml", b"!!python/object:os.system x"),
    "not text": _damage("model.yaml", b"\xff\xfe\x00"),
    "no model.yaml": lambda folder: (folder / "model.yaml").unlink(),
    "a file in place of the folder": lambda folder: (shutil.rmtree(folder), folder.write_text("")),
    "latest is another": lambda folder: (folder.parent / "latest").write_text("99-none"),
    "latest is empty": lambda folder: (folder.parent / "latest").write_text(""),
    "no latest": lambda folder: (folder.parent / "latest").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_the_latest_model_is_put_right_where_it_was_altered(contest: Contest, damage: Callable[[Path], object]) -> None:
    import_model(contest.first)
    folder = Path(bentoml.models.get(contest.first.tag).path)
    sound = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "model.yaml"}
    damage(folder)
    import_model(contest.first)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "model.yaml"} == sound
    stored = load_stored(contest.name)
    assert (stored.version, contest.served()) == (contest.first.label, "1")


def test_another_version_that_cannot_be_read_is_named(contest: Contest) -> None:
    import_model(contest.first)
    import_model(contest.second)
    broken = Path(bentoml.models.get(contest.first.tag).path)
    sound = (broken / "model.yaml").read_bytes()
    (broken / "model.yaml").write_bytes(b"a: [")
    try:
        with pytest.raises(RegistryError, match=f"^{broken}: its model.yaml cannot be read; remove this folder"):
            import_model(contest.second)
    finally:
        (broken / "model.yaml").write_bytes(sound)
    assert contest.served() == "2"


def test_a_store_that_serves_another_version_than_the_champion_is_told(contest: Contest) -> None:
    contest.promote(contest.first)
    assert not list(registry_lines(contest.name))[-1].startswith("this machine's")
    import_model(contest.second)
    last = "this machine's BentoML store serves {}, not version 1: `python -m training import`"
    assert list(registry_lines(contest.name))[-1] == last.format(contest.second.tag)
    for version in (contest.first, contest.second):
        bentoml.models.delete(version.tag)
    assert list(registry_lines(contest.name))[-1] == last.replace("serves {}", "holds no version")
