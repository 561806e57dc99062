"""The built Bento, served from the store in the serving environment, outside the checkout."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bentoml
import pyarrow as pa
import pytest
import yaml
from credit_scoring_client.client import Client

from decision_log.notary import Vault
from decision_log.proofs import Verification, verify_log
from deploy.image.build import name_models
from scoring.scorer import with_conformance
from scoring.store import StoredModel, public_key
from tests.decision_log.logs import KeyPair
from tests.decision_log.models import kept
from tests.home_credit import EXAMPLE
from tests.server import Server, serve
from training.run import Delivered

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("pandas", "sklearn", "mlflow", "optuna", "matplotlib", "tqdm", "credit_scoring_client")


@pytest.fixture(scope="module")
def bento(delivered: Delivered) -> Iterator[bentoml.Bento]:
    """A Bento built while the delivered model is the latest of the store."""
    for model in bentoml.models.list():
        if str(model.tag) != delivered.tag:
            bentoml.models.delete(model.tag)
    built = bentoml.bentos.build_bentofile("bentofile.yaml", build_ctx=str(ROOT))
    yield built
    bentoml.bentos.delete(built.tag)


@pytest.fixture(scope="module")
def serving_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with what the Bento installs and nothing else."""
    folder = tmp_path_factory.mktemp("serving") / "venv"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    lock = ROOT / "requirements" / "serving.txt"
    install = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", folder / "bin" / "python", "-r", lock]
    subprocess.run(install, check=True)
    return folder / "bin"


def test_it_pins_the_exact_version_of_the_model(bento: bentoml.Bento, stored: StoredModel) -> None:
    (model,) = yaml.safe_load((Path(bento.path) / "bento.yaml").read_text())["models"]
    assert model["tag"] == f"{stored.name}:{stored.version}"


def test_it_holds_what_it_serves_with_and_nothing_else(bento: bentoml.Bento) -> None:
    source = Path(bento.path) / "src"
    found = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    packages = {
        path.relative_to(ROOT).as_posix()
        for name in ("features", "jobs", "scoring", "decision_log", "serving", "monitoring")
        for path in (ROOT / name).glob("*.py")
    }
    page = {f"serving/page/{path.name}" for path in (ROOT / "serving/page").iterdir()}
    assert found == packages | page | {
        "service.py",
        "bentofile.yaml",
        "configs/serving.yaml",
        "configs/monitoring.yaml",
    }


def test_it_carries_the_report_of_its_model(bento: bentoml.Bento, delivered: Delivered, tmp_path: Path) -> None:
    exported = bentoml.export_bento(str(bento.tag), str(tmp_path / "exported.bento"))
    with tarfile.open(exported) as archive:
        (name,) = [name for name in archive.getnames() if name.endswith("/report.html")]
        opened = archive.extractfile(name)
        assert opened is not None
        assert hashlib.sha256(opened.read()).hexdigest() == delivered.registered.report
    assert name.endswith(f"models/{delivered.tag.replace(':', '/')}/report.html")


def test_the_serving_environment_has_none_of_the_training_packages(serving_environment: Path) -> None:
    script = f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])"
    answer = subprocess.run([serving_environment / "python", "-c", script], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]"


def test_it_is_served_outside_the_checkout_by_the_version_it_was_built_with(
    bento: bentoml.Bento, stored: StoredModel, serving_environment: Path, tmp_path: Path
) -> None:
    """A later import does not change what a Bento serves."""
    later = bentoml.Tag(stored.name, "99-000000000000")
    with bentoml.models.create(later):
        pass
    try:
        with (
            serve(
                str(bento.tag), cwd=tmp_path, log=tmp_path / "log", bentoml=serving_environment / "bentoml"
            ) as server,
            Client(server.url) as client,
        ):
            decision = client.predict(EXAMPLE["application"])
            client.predict_batch([EXAMPLE["application"]])
            before = _have_loaded(server, "libarrow")
            table = client.predict_table(pa.Table.from_pylist([EXAMPLE["application"]]))
            after = _have_loaded(server, "libarrow")
    finally:
        bentoml.models.delete(later)
    assert decision.model_version == stored.version
    assert table["probability"].to_pylist() == [decision.probability]
    if Path("/proc").is_dir():
        assert (before, after) == (False, True)  # Arrow takes memory that few workers need


def _have_loaded(server: Server, library: str) -> bool:
    """Whether a process of the service has a library in its memory."""
    found = subprocess.run(["pgrep", "-P", str(server.pid)], check=True, capture_output=True, text=True).stdout
    maps = [Path(f"/proc/{pid}/maps") for pid in found.split()]
    return any(library in one.read_text() for one in maps if one.exists())


def test_it_holds_a_challenger_by_the_alias_of_the_settings(
    bento: bentoml.Bento, stored: StoredModel, serving_environment: Path, tmp_path: Path
) -> None:
    """As docs/how-to/challengers.md lists it. The image is named after the champion, which stays the latest in it."""
    artefact, alias = stored.scorer.artefact, f"{stored.name}:challenger"
    policy = replace(artefact.policy, refer_to=artefact.policy.cutoff)
    with kept(stored.name, with_conformance(replace(artefact, policy=policy)), version="2") as challenger:
        document = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
        document["models"][0]["tag"] = f"{stored.name}:{stored.version}"
        document["models"].append({"tag": f"{stored.name}:{challenger.version}", "alias": alias})
        (tmp_path / "bentofile.yaml").write_text(yaml.safe_dump(document))
        built = bentoml.bentos.build_bentofile(str(tmp_path / "bentofile.yaml"), build_ctx=str(ROOT))
        try:
            with tarfile.open(bentoml.export_bento(str(built.tag), str(tmp_path / "exported.bento"))) as archive:
                archive.extractall(tmp_path / "exported", filter="data")
            settings = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text())
            settings["variants"] = [{"name": "challenger", "model": alias, "share": 0}]
            (tmp_path / "serving.yaml").write_text(yaml.safe_dump(settings))
            environment = {"CREDIT_SCORING_SETTINGS": str(tmp_path / "serving.yaml")}
            program, log = serving_environment / "bentoml", tmp_path / "log"
            with (
                serve(
                    str(tmp_path / "exported"), cwd=tmp_path, log=log, bentoml=program, environment=environment
                ) as server,
                Client(server.url) as client,
            ):
                known = client.model_info()["variants"]
        finally:
            bentoml.bentos.delete(built.tag)
    assert [(one["version"], one["state"]) for one in known] == [
        (stored.version, "decides"),
        (challenger.version, "shadow"),
    ]
    listed = yaml.safe_load((tmp_path / "exported" / "bento.yaml").read_text())["models"]
    assert name_models(tmp_path / "exported", listed) == f"{stored.name}:{stored.version}"
    store = tmp_path / "exported" / "models" / stored.name
    assert [(store / name).read_text() for name in ("latest", "challenger")] == [stored.version, challenger.version]


def test_relative_paths_are_those_of_the_command(
    bento: bentoml.Bento, serving_environment: Path, tmp_path: Path
) -> None:
    """The workers of a Bento run in its folder."""
    KeyPair(tmp_path / "keys")
    (tmp_path / "decisions.key").write_text("0123456789abcdef" * 4)
    (tmp_path / "decisions.key").chmod(0o600)
    environment = {
        "DECISION_LOG_DIR": "decisions",
        "DECISION_LOG_KEY_FILE": "decisions.key",
        "RECORD_KEY_FILE": "keys/record-key.pem",
        "RECORD_CHECKPOINTS": "kept",
    }
    program = serving_environment / "bentoml"
    with (
        serve(str(bento.tag), cwd=tmp_path, log=tmp_path / "log", bentoml=program, environment=environment) as server,
        Client(server.url) as client,
    ):
        client.predict(EXAMPLE["application"])
        assert list((tmp_path / "decisions" / "open").iterdir())
    verified = verify_log(
        tmp_path / "decisions", Vault(str(tmp_path / "kept")), [public_key(tmp_path / "keys" / "record-public.pem")]
    )
    assert verified == Verification(segments=1, records=1, covered=1)


def test_it_does_not_start_with_a_model_that_was_altered(
    bento: bentoml.Bento, stored: StoredModel, tmp_path: Path
) -> None:
    model = Path(bentoml.models.get(f"{stored.name}:{stored.version}").path) / "model.txt"
    original = model.read_bytes()
    model.write_bytes(original.replace(b"leaf_value=", b"leaf_value=1", 1))
    try:
        with (
            pytest.raises(RuntimeError, match=r"altered since it was written: model\.txt"),
            serve(str(bento.tag), cwd=tmp_path, log=tmp_path / "log"),
        ):
            pass
    finally:
        model.write_bytes(original)
