"""Rule 6: what was evaluated, stored and loaded carries one digest, and whatever was altered is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from features.transformer import FeatureState
from scoring.artefact import Artefact, read_portfolio
from scoring.drift_reference import Bins
from scoring.errors import ArtefactError
from scoring.model import Calibration
from scoring.policy import PointScale
from scoring.scorer import with_conformance

FILES = [
    "model.txt",
    "portfolio.json",
    "features.json",
    "calibration.json",
    "policy.json",
    "reasons.json",
    "reference.json",
    "conformance.json",
    "metrics.json",
    "lineage.json",
]


@pytest.fixture(scope="module")
def written(artefact: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact on disk; not to be changed."""
    folder = tmp_path_factory.mktemp("written") / "artefact"
    artefact.write(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of the artefact to alter."""
    return Path(shutil.copytree(written, tmp_path / "artefact"))


def digest_of(sums: dict[str, str]) -> str:
    return hashlib.sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()).hexdigest()


def forge(folder: Path, **contents: bytes | None) -> None:
    """Replace, add or drop files and make the manifest agree with them."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, content in contents.items():
        if content is None:
            (folder / name).unlink()
            del manifest["files"][name]
        else:
            (folder / name).write_bytes(content)
            manifest["files"][name] = hashlib.sha256(content).hexdigest()
    manifest["digest"] = digest_of(manifest["files"])
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def test_rule_6_what_was_written_is_read_with_the_same_digest(artefact, written):
    again = Artefact.read(written)
    assert again.digest == artefact.digest
    assert again == artefact


def test_rule_6_what_was_read_is_written_with_the_same_bytes(written, tmp_path):
    Artefact.read(written).write(tmp_path / "again")
    names = sorted(path.name for path in written.iterdir())
    assert names == sorted([*FILES, "manifest.json"])
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == names
    assert [(tmp_path / "again" / name).read_bytes() for name in names] == [
        (written / name).read_bytes() for name in names
    ]


def test_rule_6_the_digest_is_over_the_sha_256_of_every_file(artefact, written):
    sums = {name: hashlib.sha256((written / name).read_bytes()).hexdigest() for name in FILES}
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest == {"format": 5, "digest": artefact.digest, "files": sums}
    assert artefact.digest == digest_of(sums)


def test_rule_6_what_was_written_is_what_was_meant(written):
    read = {name: json.loads((written / name).read_text()) for name in FILES if name.endswith(".json")}
    assert read["calibration.json"] == {"slope": 1.1, "intercept": -0.1}
    assert read["policy.json"] == {
        "cutoff": 0.08,
        "refer_from": 0.07,
        "refer_to": 0.09,
        "level_bounds": [0.04, 0.08, 0.16],
        "cost_fn": 10,
        "cost_fp": 1,
        "scale": {"base": 600, "odds": 50, "double": 20},
        "completeness": {"known": ["AMT_ANNUITY"], "max_missing_share": 0.99},
    }
    assert read["metrics.json"] == {"auc": {"value": 0.7, "low": 0.65, "high": 0.75}}
    assert read["lineage.json"] == {"fingerprint": "abc", "seed": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {"model_text": a.model_text + "\n"},
        lambda a: {"features": replace(a.features, names=a.features.names[::-1])},
        lambda a: {"features": replace(a.features, clip={})},
        lambda a: {"features": replace(a.features, vocabularies={**a.features.vocabularies, "ORGANIZATION_TYPE": ()})},
        lambda _: {"calibration": Calibration(slope=1.1, intercept=-0.1000001)},
        lambda a: {"policy": replace(a.policy, cutoff=0.0801)},
        lambda a: {"policy": replace(a.policy, scale=PointScale(base=601, odds=50, double=20))},
        lambda a: {"policy": replace(a.policy, cost_fn=11)},
        lambda a: {"policy": replace(a.policy, completeness=None)},
        lambda a: {"policy": replace(a.policy, completeness=replace(a.policy.completeness, max_missing_share=0.9))},
        lambda a: {"reference": replace(a.reference, probability=Bins("numeric", (0.5,), (a.reference.rows, 0, 0, 0)))},
        lambda _: {"metrics": {"auc": 0.7}},
        lambda _: {"lineage": {"seed": 2}},
    ],
    ids=[
        "model",
        "names",
        "clip",
        "vocabularies",
        "calibration",
        "cutoff",
        "scale",
        "cost",
        "no rule",
        "another rule",
        "reference",
        "metrics",
        "lineage",
    ],
)
def test_rule_6_anything_else_has_another_digest(artefact, change):
    assert replace(artefact, **change(artefact)).digest != artefact.digest


def flip(position: Callable[[int], int]) -> Callable[[Path], object]:
    def alter(path: Path) -> object:
        content = bytearray(path.read_bytes())
        content[position(len(content))] ^= 1
        return path.write_bytes(content)

    return alter


def cut(to: Callable[[int], int]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: to(path.stat().st_size)])


ALTERATIONS = {
    "first byte": flip(lambda _: 0),
    "middle byte": flip(lambda size: size // 2),
    "last byte": flip(lambda size: size - 1),
    "without its last byte": cut(lambda size: size - 1),
    "half": cut(lambda size: size // 2),
    "empty": cut(lambda _: 0),
    "twice": lambda path: path.write_bytes(path.read_bytes() * 2),
    "deleted": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_rule_6_an_altered_file_is_refused(folder, name, alteration):
    ALTERATIONS[alteration](folder / name)
    with pytest.raises(ArtefactError) as caught:
        Artefact.read(folder)
    said = str(caught.value).removeprefix(f"{folder}: ")
    if alteration in ("deleted", "folder"):
        assert said.startswith("not a complete artefact (")
    else:
        assert said == f"altered since it was written: {name}"


@pytest.mark.parametrize(
    "alteration", [name for name in ALTERATIONS if name not in ("last byte", "without its last byte")]
)
def test_rule_6_an_altered_manifest_is_refused(folder, alteration):
    ALTERATIONS[alteration](folder / "manifest.json")
    with pytest.raises(ArtefactError):
        Artefact.read(folder)


def test_rule_6_a_manifest_with_another_digest_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": "0" * 64}))
    with pytest.raises(ArtefactError, match=r"altered since it was written: manifest\.json$"):
        Artefact.read(folder)


def test_rule_6_a_file_that_the_manifest_was_made_to_agree_with_has_another_digest(folder, artefact):
    forge(folder, **{"lineage.json": b"{}\n"})
    assert Artefact.read(folder).digest != artefact.digest
    with pytest.raises(ArtefactError, match=f"where {artefact.digest[:12]} was asked for$"):
        Artefact.read(folder, digest=artefact.digest)


def test_rule_6_the_digest_that_is_asked_for_is_the_one_that_is_read(folder, artefact):
    assert Artefact.read(folder, digest=artefact.digest) == artefact
    with pytest.raises(ArtefactError, match=f"digest {artefact.digest[:12]} where 000000000000 was asked for$"):
        Artefact.read(folder, digest="0" * 64)


def test_rule_6_two_files_that_changed_places_are_refused(folder):
    (folder / "metrics.json").rename(folder / "held")
    (folder / "lineage.json").rename(folder / "metrics.json")
    (folder / "held").rename(folder / "lineage.json")
    with pytest.raises(ArtefactError, match=r"altered since it was written: lineage\.json, metrics\.json$"):
        Artefact.read(folder)


def test_rule_6_an_artefact_without_reasons_keeps_the_older_format_and_is_read_again(artefact, tmp_path):
    bare = with_conformance(replace(artefact, reasons=None))
    bare.write(tmp_path / "bare")
    manifest = json.loads((tmp_path / "bare" / "manifest.json").read_text())
    assert manifest["format"] == 4
    assert "reasons.json" not in manifest["files"]
    assert "reasons" not in json.loads((tmp_path / "bare" / "conformance.json").read_text())
    assert Artefact.read(tmp_path / "bare") == bare


def test_an_artefact_of_another_format_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 6}))
    with pytest.raises(ArtefactError, match=r"artefact format 6, this code reads 4 and 5: train the model again$"):
        Artefact.read(folder)


def test_an_older_artefact_which_lacks_files_is_refused_as_one_of_another_format(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    (folder / "reference.json").unlink()
    with pytest.raises(ArtefactError, match=r"artefact format 1, this code reads 4 and 5: train the model again$"):
        Artefact.read(folder)


@pytest.mark.parametrize("content", [b"{}", b"no JSON", b"", b'{"name": "x", "outcome": {"column": "y"}}'], ids=str)
def test_an_artefact_without_a_sound_portfolio_is_refused(folder, content):
    forge(folder, **{"portfolio.json": content})
    for read in (Artefact.read, read_portfolio):
        with pytest.raises(ArtefactError):
            read(folder)


def test_a_portfolio_that_does_not_declare_a_feature_of_the_model_is_refused(folder):
    declared = json.loads((folder / "portfolio.json").read_text())
    del declared["features"]
    del declared["training"]
    del declared["reasons"]
    forge(folder, **{"portfolio.json": json.dumps(declared, indent=1).encode()})
    with pytest.raises(ArtefactError, match="features that are not declared"):
        Artefact.read(folder)


def test_the_portfolio_is_read_alone(folder, artefact):
    assert read_portfolio(folder) == artefact.portfolio


def test_an_artefact_with_an_impossible_calibration_is_refused(folder):
    forge(folder, **{"calibration.json": b'{"slope": -1, "intercept": 0}'})
    with pytest.raises(ArtefactError, match="positive, finite slope"):
        Artefact.read(folder)


@pytest.mark.parametrize("content", ["{}", "no JSON", ""])
def test_a_manifest_without_files_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ArtefactError, match="not a complete artefact"):
        Artefact.read(folder)


@pytest.mark.parametrize("name", ["none", "file"])
def test_what_is_no_artefact_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match=r"not a complete artefact \("):
        Artefact.read(tmp_path / name)


def test_metrics_that_json_has_not_are_not_written(artefact, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        replace(artefact, metrics={"auc": float("nan")}).write(tmp_path / "artefact")


def test_folders_above_the_artefact_are_made(artefact, tmp_path):
    artefact.write(tmp_path / "models" / "today")
    assert Artefact.read(tmp_path / "models" / "today").digest == artefact.digest


def test_nothing_is_written_into_a_folder_that_exists(artefact, tmp_path):
    with pytest.raises(FileExistsError):
        artefact.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_model_store_puts_beside_it_does_not_matter(folder, artefact):
    (folder / "model.yaml").write_text("name: small")
    assert Artefact.read(folder, digest=artefact.digest) == artefact


def test_the_features_of_an_artefact_are_a_state(written):
    assert isinstance(Artefact.read(written).features, FeatureState)


@pytest.mark.slow
def test_rule_6_every_changed_byte_of_the_manifest_is_refused(folder):
    sound = (folder / "manifest.json").read_bytes()
    for position in range(len(sound)):
        for changed in (sound[position] ^ 1, ord(" ")):
            if changed != sound[position]:
                (folder / "manifest.json").write_bytes(sound[:position] + bytes([changed]) + sound[position + 1 :])
                with pytest.raises(ArtefactError):
                    Artefact.read(folder)


@pytest.mark.parametrize("content", ["[]", "null", '{"format": 4, "digest": "", "files": 1}'])
def test_a_manifest_of_another_shape_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ArtefactError, match="not a complete artefact"):
        Artefact.read(folder)


@pytest.mark.parametrize(
    "contents",
    [
        {"more.json": b"{}"},
        {"lineage.json": None},
        {"calibration.json": b'{"slope": 1}'},
        {"calibration.json": b"{"},
        {"policy.json": b"[]"},
        {"features.json": b"{}"},
        {"model.txt": b"\xff"},
        {"reference.json": b"{}"},
        {"reference.json": b"[]"},
    ],
    ids=str,
)
def test_a_manifest_that_agrees_with_other_files_does_not_make_an_artefact(folder, contents):
    forge(folder, **contents)
    with pytest.raises(ArtefactError):
        Artefact.read(folder)


@pytest.mark.parametrize(
    "contents",
    [
        {"policy.json": b"null"},
        {"features.json": b'{"names": [], "vocabularies": [], "clip": {}, "definition": ""}'},
    ],
    ids=str,
)
def test_a_file_of_another_shape_does_not_make_an_artefact(folder, contents):
    forge(folder, **contents)
    with pytest.raises(ArtefactError, match="not an artefact that this code reads"):
        Artefact.read(folder)


@pytest.mark.parametrize("contents", [{"metrics.json": b'{ "auc" : 1}'}, {"lineage.json": b"{}"}], ids=str)
def test_rule_6_an_artefact_that_this_code_would_write_otherwise_is_refused(folder, contents):
    forge(folder, **contents)
    with pytest.raises(ArtefactError, match="not an artefact that this code"):
        Artefact.read(folder)


def test_rule_6_metrics_with_numbers_as_keys_keep_their_digest(artefact, tmp_path):
    counted = replace(artefact, metrics={"by_decile": {9: 0.1, 10: 0.2}})
    counted.write(tmp_path / "artefact")
    assert Artefact.read(tmp_path / "artefact").digest == counted.digest
