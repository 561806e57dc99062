"""Models of the store, where somebody has altered what is there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bentoml
import pytest
import yaml

from monitoring.sources import load_model
from scoring.artefact import Artefact
from scoring.errors import ArtefactError, SignatureError
from scoring.scorer import with_conformance
from scoring.store import (
    Statement,
    load_folder,
    load_stored,
    read_alias,
    sign,
    write_alias,
    write_signature,
)
from tests.scoring.signers import Signer

NAME = "kept_model"
REPORT = b"<html>good</html>"
REPORT_DIGEST = hashlib.sha256(REPORT).hexdigest()


@pytest.fixture(autouse=True)
def _trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CREDIT_SCORING_DIGEST", "CREDIT_SCORING_SIGNER"):
        monkeypatch.delenv(name, raising=False)


def keep(artefact: Artefact, *, version: str | None = None, report: bytes | None = REPORT) -> bentoml.Model:
    """Put an artefact into the store as an import does."""
    metadata = {"digest": artefact.digest}
    if report is not None:
        metadata["report"] = hashlib.sha256(report).hexdigest()
    tag = f"{NAME}:{version or statement(artefact).label}"
    with bentoml.models.create(tag, metadata=metadata) as created:
        folder = Path(created.path)
        artefact.write(folder / "artefact")
        shutil.copytree(folder / "artefact", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "artefact")
        if report is not None:
            (folder / "report.html").write_bytes(report)
    return bentoml.models.get(tag)


def statement(artefact: Artefact) -> Statement:
    return Statement(NAME, "1", artefact.digest, REPORT_DIGEST)


@pytest.fixture
def kept(artefact: Artefact) -> Iterator[Path]:
    """The folder of a model in the store."""
    model = keep(artefact)
    yield Path(model.path)
    shutil.rmtree(Path(model.path).parent)


@pytest.fixture
def forged(artefact: Artefact) -> Artefact:
    """A model that approves everybody."""
    policy = replace(artefact.policy, cutoff=0.99, refer_from=0.99, refer_to=0.99)
    return with_conformance(replace(artefact, policy=policy))


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.made(tmp_path, "ours")


def test_a_model_as_it_was_imported_is_loaded(kept: Path, artefact: Artefact) -> None:
    stored = load_stored(NAME)
    assert (stored.name, stored.version) == (NAME, f"1-{artefact.digest[:32]}")
    assert stored.scorer.artefact.digest == artefact.digest


@pytest.mark.parametrize("digits", [0, 12, 31, 33])
def test_a_version_carries_32_digits_of_the_digest(artefact: Artefact, digits: int) -> None:
    version = f"1-{artefact.digest[:digits]}".rstrip("-")
    model = keep(artefact, version=version)
    try:
        with pytest.raises(ArtefactError, match=rf"^{NAME}:{version}: the version does not carry the digest"):
            load_stored(str(model.tag))
    finally:
        shutil.rmtree(Path(model.path).parent)


def test_a_version_with_the_digest_of_another_model_is_refused(artefact: Artefact, forged: Artefact) -> None:
    model = keep(forged, version=statement(artefact).label)
    try:
        with pytest.raises(ArtefactError, match="the version does not carry the digest"):
            load_stored(str(model.tag))
    finally:
        shutil.rmtree(Path(model.path).parent)


def test_an_altered_report_is_noticed(kept: Path) -> None:
    (kept / "report.html").write_bytes(REPORT.replace(b"good", b"best"))
    with pytest.raises(ArtefactError, match=r"report\.html is not the one that the model was imported with$"):
        load_stored(NAME)


@pytest.mark.parametrize("kind", ["missing", "pipe", "folder"])
def test_a_report_that_cannot_be_read_is_noticed(kept: Path, kind: str) -> None:
    (kept / "report.html").unlink()
    if kind == "pipe":
        os.mkfifo(kept / "report.html")
    elif kind == "folder":
        (kept / "report.html").mkdir()
    with pytest.raises(ArtefactError, match=r"report\.html"):
        load_stored(NAME)


@pytest.mark.parametrize("kind", ["missing", "pipe", "folder", "link to nothing", "not UTF-8"])
@pytest.mark.parametrize("name", ["manifest.json", "model.txt", "features.json", "lineage.json"])
def test_a_file_of_the_artefact_that_is_none_is_said_in_one_line(kept: Path, name: str, kind: str) -> None:
    (kept / name).unlink()
    if kind == "pipe":
        os.mkfifo(kept / name)
    elif kind == "folder":
        (kept / name).mkdir()
    elif kind == "link to nothing":
        (kept / name).symlink_to("nothing")
    elif kind == "not UTF-8":
        (kept / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtefactError) as refused:
        load_stored(NAME)
    assert "\n" not in str(refused.value)
    assert str(kept) in str(refused.value)


_GOOD = {"name": NAME, "api_version": "v1", "labels": {}, "options": {}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"a: [",
        b"\xff\xfe",
        b"\x00" * 4096,
        b"name: 3",
        b"creation_time: 2026-13-45",
        b"a: &a [*a]",
        b'a: "\\U00110000"',
        b"[" * 5_000,
        b"!!python/object/apply:os.getcwd []",
        yaml.safe_dump({**_GOOD, "version": "1", "metadata": [1]}).encode(),
        yaml.safe_dump({**_GOOD, "version": "1", "metadata": {"digest": 5}}).encode(),
    ],
)
def test_a_broken_model_yaml_is_said_in_one_line(kept: Path, content: bytes) -> None:
    (kept / "model.yaml").write_bytes(content)
    with pytest.raises(ArtefactError) as refused:
        load_stored(f"{NAME}:{kept.name}")
    assert "\n" not in str(refused.value)
    assert NAME in str(refused.value)


@pytest.mark.parametrize("digest", [None, "", "0" * 64, "short", 5])
def test_a_model_yaml_without_the_digest_is_refused(kept: Path, digest: object) -> None:
    content = yaml.safe_load((kept / "model.yaml").read_text())
    content["metadata"] = {} if digest is None else {"digest": digest}
    (kept / "model.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ArtefactError, match="the version does not carry the digest"):
        load_stored(f"{NAME}:{kept.name}")


@pytest.mark.parametrize("tag", ["", "a b", "a:b:c", "UPPER CASE", "x" * 100])
def test_what_is_no_tag_is_said_to_be_none(tag: str) -> None:
    with pytest.raises(ArtefactError, match=r"not a tag; a tag is name or name:version$"):
        load_stored(tag)


def test_an_alias_means_a_version_until_it_is_taken_away(kept: Path, forged: Artefact) -> None:
    other = keep(forged)  # created last, so that it is the latest
    write_alias(NAME, "challenger", kept.name)
    assert (load_stored(f"{NAME}:challenger").version, load_stored(NAME).version) == (kept.name, other.tag.version)
    write_alias(NAME, "challenger", str(other.tag.version))
    assert read_alias(NAME, "challenger") == load_stored(f"{NAME}:challenger").version == other.tag.version
    assert [model.tag for model in bentoml.models.list(NAME)] == sorted([bentoml.Tag(NAME, kept.name), other.tag])
    write_alias(NAME, "challenger", None)
    write_alias(NAME, "challenger", None)
    assert read_alias(NAME, "challenger") is None
    with pytest.raises(ArtefactError, match=rf"^{NAME}:challenger: not in the BentoML model store"):
        load_stored(f"{NAME}:challenger")


@pytest.mark.parametrize("alias", ["", "latest", "7", "a b", "A", "../up"])
def test_an_alias_is_a_word_of_its_own(kept: Path, alias: str) -> None:
    with pytest.raises(ArtefactError, match="not an alias"):
        write_alias(NAME, alias, kept.name)


@pytest.mark.parametrize("name", ["", "a:b", "../up", "UP CASE"])
def test_only_a_model_of_the_store_has_an_alias(name: str) -> None:
    with pytest.raises(ArtefactError, match="not the name of a model"):
        write_alias(name, "challenger", "1-abc")


@pytest.mark.parametrize("version", ["9-0123", "", "../.."])
def test_no_alias_means_a_version_that_is_not_there(kept: Path, version: str) -> None:
    with pytest.raises(ArtefactError, match="not in the BentoML model store, so no alias can mean it"):
        write_alias(NAME, "challenger", version)
    assert not (kept.parent / "challenger").exists()


@pytest.mark.parametrize("content", ["", "a b", "x" * 2_000])
def test_an_alias_without_a_version_is_said_in_one_line(kept: Path, content: str) -> None:
    (kept.parent / "challenger").write_text(content)
    with pytest.raises(ArtefactError, match=r"challenger: (holds no version|cannot be read)"):
        load_stored(f"{NAME}:challenger")


def test_a_digest_that_is_asked_for_is_required(kept: Path, artefact: Artefact) -> None:
    assert load_stored(NAME, environment={"CREDIT_SCORING_DIGEST": artefact.digest}).name == NAME
    with pytest.raises(SignatureError, match=r"its digest is not the one in CREDIT_SCORING_DIGEST$"):
        load_stored(NAME, environment={"CREDIT_SCORING_DIGEST": "0" * 64})


def test_a_signed_model_is_loaded(kept: Path, artefact: Artefact, signer: Signer) -> None:
    write_signature(kept, statement(artefact), sign(statement(artefact), signer.private))
    stored = load_stored(NAME, environment={"CREDIT_SCORING_SIGNER": str(signer.public)})
    assert stored.scorer.artefact.digest == artefact.digest


def test_an_unsigned_model_is_refused_where_a_signer_is_named(kept: Path, signer: Signer) -> None:
    with pytest.raises(SignatureError, match=r": is not signed \(signature\.json is missing\)$"):
        load_stored(NAME, environment={"CREDIT_SCORING_SIGNER": str(signer.public)})


@pytest.mark.parametrize("forge", ["own signature", "old signature", "restated", "edited"])
def test_who_may_write_the_whole_store_cannot_have_a_model_of_his_served(
    artefact: Artefact, forged: Artefact, signer: Signer, tmp_path: Path, forge: str
) -> None:
    """The manifest, the metadata, the version and the report fit: it is served where nobody is trusted."""
    model, theirs = keep(forged), Signer.made(tmp_path, "theirs")
    folder = Path(model.path)
    try:
        assert load_stored(NAME).scorer.artefact.policy.cutoff == 0.99
        good = sign(statement(artefact), signer.private)
        if forge == "own signature":
            write_signature(folder, statement(forged), sign(statement(forged), theirs.private))
        elif forge == "old signature":
            write_signature(folder, statement(artefact), good)
        elif forge == "restated":
            write_signature(folder, statement(forged), good)
        else:
            write_signature(folder, replace(statement(forged), report=None), good)
        with pytest.raises(SignatureError):
            load_stored(NAME, environment={"CREDIT_SCORING_SIGNER": str(signer.public)})
        with pytest.raises(SignatureError, match="CREDIT_SCORING_DIGEST"):
            load_stored(NAME, environment={"CREDIT_SCORING_DIGEST": artefact.digest})
    finally:
        shutil.rmtree(folder.parent)


def test_a_signature_of_another_version_is_refused(artefact: Artefact, signer: Signer) -> None:
    model = keep(artefact, version=replace(statement(artefact), version="2").label)
    try:
        write_signature(Path(model.path), statement(artefact), sign(statement(artefact), signer.private))
        with pytest.raises(SignatureError, match=rf"the signature belongs to {NAME}:1-"):
            load_stored(NAME, environment={"CREDIT_SCORING_SIGNER": str(signer.public)})
    finally:
        shutil.rmtree(Path(model.path).parent)


def test_a_report_altered_together_with_the_metadata_is_noticed_by_the_signature(
    kept: Path, artefact: Artefact, signer: Signer
) -> None:
    write_signature(kept, statement(artefact), sign(statement(artefact), signer.private))
    (kept / "report.html").write_bytes(b"best")
    content = yaml.safe_load((kept / "model.yaml").read_text())
    content["metadata"]["report"] = hashlib.sha256(b"best").hexdigest()
    (kept / "model.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SignatureError, match=r"the signature belongs to another artefact or another report$"):
        load_stored(NAME, environment={"CREDIT_SCORING_SIGNER": str(signer.public)})


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"{", b"\xff", b"[" * 9_000, b'{"signature": 1}', b" " * 20_000]
)
def test_what_is_no_signed_statement_is_said_in_one_line(kept: Path, signer: Signer, content: bytes) -> None:
    (kept / "signature.json").write_bytes(content)
    with pytest.raises(SignatureError, match=r"signature\.json: "):
        load_stored(NAME, environment={"CREDIT_SCORING_SIGNER": str(signer.public)})


def test_a_folder_that_monitoring_is_given_is_held_to_the_same(
    kept: Path, artefact: Artefact, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_model(str(kept)).digest == artefact.digest
    monkeypatch.setenv("CREDIT_SCORING_SIGNER", str(signer.public))
    with pytest.raises(SignatureError, match="is not signed"):
        load_model(str(kept))
    write_signature(kept, statement(artefact), sign(statement(artefact), signer.private))
    assert load_model(str(kept)).digest == artefact.digest
    monkeypatch.setenv("CREDIT_SCORING_DIGEST", "0" * 64)
    with pytest.raises(SignatureError, match="CREDIT_SCORING_DIGEST"):
        load_model(str(kept))


def test_a_copy_of_a_models_folder_has_its_name_and_version(kept: Path, artefact: Artefact, tmp_path: Path) -> None:
    copied = shutil.copytree(kept, tmp_path / kept.parent.name / kept.name)
    (tmp_path / "champion").symlink_to(copied)
    for folder in (kept, copied, tmp_path / "champion"):
        stored = load_folder(folder)
        assert (stored.name, stored.version) == (NAME, f"1-{artefact.digest[:32]}")
        assert stored.scorer.artefact.digest == artefact.digest


def test_a_folder_of_another_name_has_the_digest_in_its_version(artefact: Artefact, tmp_path: Path) -> None:
    artefact.write(tmp_path / "1-0123")
    stored = load_folder(tmp_path / "1-0123")
    assert (stored.name, stored.version) == ("1-0123", f"0-{artefact.digest[:32]}")


def test_a_folder_must_hold_the_digest_that_is_asked_for(kept: Path) -> None:
    with pytest.raises(ArtefactError, match="where 000000000000 was asked for"):
        load_folder(kept, digest="0" * 64)


def test_a_folder_is_held_to_what_the_environment_trusts(kept: Path, artefact: Artefact, signer: Signer) -> None:
    trusting = {"CREDIT_SCORING_SIGNER": str(signer.public)}
    with pytest.raises(SignatureError, match="is not signed"):
        load_folder(kept, environment=trusting)
    older = replace(statement(artefact), version="0")
    write_signature(kept, older, sign(older, signer.private))
    with pytest.raises(SignatureError, match=rf"the signature belongs to {NAME}:0-"):
        load_folder(kept, environment=trusting)
    write_signature(kept, statement(artefact), sign(statement(artefact), signer.private))
    assert load_folder(kept, environment=trusting).name == NAME
