"""Tracking, registry, promotion, import, and the command line."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import bentoml
import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from scoring.artefact import Artefact
from scoring.store import StoredModel
from tests.home_credit import write_bare_portfolio
from tests.without_home_credit import HERE
from training.cli import main
from training.errors import ParityError, RegistryError
from training.registry import store, tracking
from training.registry.registry import artefact_folder, copy_report, download, find
from training.registry.store import import_model
from training.registry.tracking import commit
from training.run import Delivered, _python
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings_file(settings: TrainingSettings, tmp_path: Path) -> Path:
    """The settings, for a model of its own: what the commands promote is not the delivered model's business."""
    path = tmp_path / "training.yaml"
    values = settings.model_dump(mode="json") | {"portfolio": str(write_bare_portfolio(tmp_path))}
    values["tracking"]["model"] = "commands_model"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_run_is_tracked_with_parameters_metrics_and_figures(delivered: Delivered, settings: TrainingSettings) -> None:
    run = mlflow.get_run(delivered.registered.run_id)
    experiment = mlflow.get_experiment_by_name(settings.tracking.experiment)
    assert experiment is not None
    assert run.info.experiment_id == experiment.experiment_id
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.1"
    assert run.data.params["without"] == "sex,marital_status,age"
    assert run.data.metrics["auc"] == delivered.trained.evaluation["auc"].value
    assert run.data.metrics["auc_low"] == delivered.trained.evaluation["auc"].low
    assert run.data.tags["digest"] == delivered.registered.digest
    figures = MlflowClient().list_artifacts(delivered.registered.run_id, "figures")
    assert len(figures) == 7


def test_one_report_from_the_run_to_the_store(delivered: Delivered, tmp_path: Path) -> None:
    registered = delivered.registered
    logged = Path(MlflowClient().download_artifacts(registered.run_id, "report.html", str(tmp_path)))
    in_model = download(registered, tmp_path) / "artifacts" / "report.html"
    stored = Path(bentoml.models.get(delivered.tag).path) / "report.html"
    assert logged.read_bytes() == in_model.read_bytes() == stored.read_bytes()
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == registered.report
    assert registered.digest in stored.read_text(encoding="utf-8")
    assert find(registered.name, registered.version) == registered


def test_the_report_command_writes_the_report_of_a_version(
    delivered: Delivered, settings: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = tmp_path / "training.yaml"
    chosen.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    output = tmp_path / "report.html"
    version = delivered.registered.version
    assert main(["report", "--version", version, "--output", str(output), "--settings", str(chosen)]) == 0
    assert hashlib.sha256(output.read_bytes()).hexdigest() == delivered.registered.report
    said = f"report of {delivered.registered}, digest {delivered.registered.digest[:12]}: {output}\n"
    assert capsys.readouterr().out == said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "training.yaml"]


def test_a_version_without_a_report_has_none(delivered: Delivered, tmp_path: Path) -> None:
    """Versions that were registered before there were reports can still be imported."""
    without = replace(delivered.registered, report=None)
    with pytest.raises(RegistryError, match="registered without a report"):
        copy_report(without, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
    assert str(import_model(without)) == delivered.tag


def test_one_digest_from_the_run_to_the_store(delivered: Delivered, stored: StoredModel, tmp_path: Path) -> None:
    digest = delivered.registered.digest
    registered = Artefact.read(artefact_folder(download(delivered.registered, tmp_path), delivered.registered))
    model = bentoml.models.get(delivered.tag)
    assert registered.digest == stored.scorer.artefact.digest == model.info.metadata["digest"] == digest
    assert stored.version == f"{delivered.registered.version}-{digest[:32]}"


def test_the_artefact_says_where_it_comes_from(delivered: Delivered, stored: StoredModel, generated: Path) -> None:
    lineage = stored.scorer.artefact.lineage
    assert lineage["run_id"] == delivered.registered.run_id
    assert lineage["data"]["source"] == "generated: application_train.csv"
    assert lineage["data"]["rows"] == 3_000
    assert lineage["settings"]["features"]["without"] == ["sex", "marital_status", "age"]


def test_nothing_of_the_registered_model_is_pickled(delivered: Delivered, tmp_path: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(delivered.registered.uri, dst_path=str(tmp_path)))
    assert [path.name for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")] == []


def test_importing_again_changes_nothing(delivered: Delivered) -> None:
    import_model(delivered.registered)
    before = bentoml.models.get(delivered.tag).creation_time
    assert str(import_model(delivered.registered)) == delivered.tag
    assert bentoml.models.get(delivered.tag).creation_time == before


def test_a_model_that_scores_differently_after_the_import_is_not_imported(
    delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One margin off by a billionth."""
    predict = store.lgb.Booster.predict

    def off_by_one_bit(*arguments: Any, **options: Any) -> Any:
        margins = predict(*arguments, **options)
        margins[17] += 1e-9
        return margins

    monkeypatch.setattr(store.lgb.Booster, "predict", off_by_one_bit)
    bentoml.models.delete(delivered.tag)
    with pytest.raises(ParityError, match="1 of 1000 probabilities are not those of LightGBM"):
        import_model(delivered.registered)
    assert delivered.tag not in [str(model.tag) for model in bentoml.models.list()]
    monkeypatch.undo()
    assert str(import_model(delivered.registered)) == delivered.tag


@pytest.mark.parametrize("version", ["999", "@nobody"])
def test_what_is_not_registered_is_not_found(delivered: Delivered, version: str) -> None:
    with pytest.raises(RegistryError, match="not in the registry"):
        find(delivered.registered.name, version)


def test_the_pyfunc_refuses_what_breaks_the_declaration(delivered: Delivered, generated: Path) -> None:
    model = mlflow.pyfunc.load_model(delivered.registered.uri).unwrap_python_model()
    frame = pd.read_csv(generated / "application_test.csv", nrows=5)
    with pytest.raises(Exception, match="column missing: AMT_CREDIT") as refused:
        model.predict_proba(frame.drop(columns="AMT_CREDIT"))
    assert type(refused.value).__name__ == "ColumnsError"
    frame.loc[2, "AMT_CREDIT"] = -918273645
    with pytest.raises(type(refused.value), match=r"^AMT_CREDIT: must be between 1 and 1000000000 \(1 row: 3\)$"):
        model.predict_proba(frame)


def test_run_prints_what_it_measured(
    generated: Path, settings_file: Path, delivered: Delivered, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_file.write_text(settings_file.read_text().replace("commands_model", "printed_model"))
    assert main(["run", "--data", str(generated), "--settings", str(settings_file)]) == 0
    said = capsys.readouterr()
    assert "3000 applications" in said.out
    assert f"  auc                  {delivered.trained.evaluation['auc']}" in said.out
    assert "  AUC, lower end  " in said.out
    imported, *after = said.out.splitlines()[-5:]
    assert imported.startswith("imported printed_model:")
    options = f"--settings {settings_file}"
    otherwise = "write model: printed_model in configs/serving.yaml, and tag: printed_model:latest and alias: "
    file = generated / "application_train.csv"
    assert after == [
        f"the service does not serve printed_model yet: {otherwise}printed_model in bentofile.yaml",
        "next, for this model:",
        f"  {_python()} -m training list {options}",
        f"  {_python()} -m scoring batch --input {file} --output scores --model printed_model",
    ]
    assert "cross-validation: " in said.err
    assert "left out of the model because of sex: CODE_GENDER" in said.err.splitlines()


def test_commands_that_are_printed_act_on_the_same_model(
    generated: Path, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second champion is the first that can be rolled back."""
    settings_file.write_text(settings_file.read_text().replace("commands_model", "pasted_model"))
    run = ["run", "--data", str(generated), "--settings", str(settings_file)]

    def said(*arguments: str) -> list[str]:
        assert main([*arguments]) == 0
        return capsys.readouterr().out.splitlines()

    listing, promoting = said(*run, "--no-promote")[-2:]
    assert len(said(*shlex.split(listing)[3:])) == 2
    assert said(*shlex.split(promoting)[3:])[-2] == "pasted_model version 1 is champion"
    listing, rolling_back, _ = said(*run)[-3:]
    assert len(said(*shlex.split(listing)[3:])) == 5
    assert said(*shlex.split(rolling_back)[3:])[0] == "pasted_model version 1 is champion"


def test_run_without_data_generates_it(
    settings: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = settings.model_dump(mode="json") | {"portfolio": str(write_bare_portfolio(tmp_path))}
    small["tracking"]["model"] = "generated_model"
    small["synthetic"] = {"clients": 1500, "seed": 1}
    small["model"] |= {"max_trees": 10}
    small["gates"] |= {"min_auc": 0.5, "max_ece": 1.0, "max_cost_ratio": 10}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small))
    assert main(["run", "--settings", str(path)]) == 0
    assert "1500 applications" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--data", "nowhere"], "error: nowhere: no such file or folder"),
        (["run", "--settings", "nowhere.yaml"], "error: nowhere.yaml: cannot be read (No such file or directory)"),
        (
            ["report", "--output", "nowhere/x.html"],
            "error: --output nowhere/x.html: not a file in a folder that exists",
        ),
        (["report", "--version", "999", "--output", "x.html"], "error: commands_model 999: not in the registry"),
        (["promote", "--version", "999"], "error: commands_model 999: not in the registry"),
    ],
)
def test_a_failed_command_says_why_in_one_line(
    settings_file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    options = arguments if "--settings" in arguments else [*arguments, "--settings", str(settings_file)]
    assert main(options) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(said) == 1
    assert said[0].startswith(message)


@pytest.mark.skipif(not HERE, reason="Home Credit's portfolio is deleted: `git checkout configs/portfolios` brings it")
def test_synthesize_writes_every_table(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "training", "synthesize", "--clients", "200", "--output", str(out)]
    subprocess.run([*command, "--format", "parquet"], cwd=ROOT, check=True, capture_output=True)
    assert len(list(out.glob("*.parquet"))) == 9
    again = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (again.returncode, again.stderr.splitlines()[-1].startswith("error: ")) == (1, True)


@pytest.mark.parametrize("module", ["training", "scoring"])
def test_commands_explain_themselves(module: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert answer.stdout.startswith(f"Usage: python -m {module}")


def test_batch_command(stored: StoredModel, generated: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    command = [sys.executable, "-m", "scoring", "batch", "--input", str(generated / "application_test.csv")]
    command += ["--model", f"{stored.name}:{stored.version}", "--output", str(out)]
    first = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    written = (out / "_manifest.json").read_bytes()
    told = json.loads(written)
    assert (told["version"], told["rows"], told["rejected"]) == (stored.version, 480, 0)
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert (again.stdout, (out / "_manifest.json").read_bytes()) == (first.stdout, written)


def test_batch_command_without_a_model(generated: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scoring", "batch", "--input", str(generated / "application_test.csv")]
    command += ["--model", "nobody:1", "--output", str(tmp_path / "scores")]
    answer = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr.startswith("error: nobody:1: not in the BentoML model store")) == (1, True)
    assert not (tmp_path / "scores").exists()
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("rows", [30, 150])
def test_data_that_is_too_small_is_refused_before_a_run_is_tracked(
    generated: Path, settings: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int
) -> None:
    frame = pd.read_csv(generated / "application_train.csv", nrows=rows)
    frame.loc[:2, "TARGET"] = 1
    frame.to_csv(tmp_path / "application_train.csv", index=False)
    changed = settings.model_dump(mode="json")
    changed["tracking"]["uri"] = f"sqlite:///{tmp_path}/mlflow.db"
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(changed))
    assert main(["run", "--data", str(tmp_path), "--settings", str(path)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {frame['TARGET'].sum()} defaults in {rows} rows are too few: 3 folds")
    assert not (tmp_path / "mlflow.db").exists()


def test_the_lineage_tells_a_dirty_working_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_ROOT", tmp_path)
    assert commit() is None
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "First"], cwd=tmp_path, check=True)
    clean = commit()
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "new.py").write_text("")
    assert commit() == f"{clean}-dirty"
