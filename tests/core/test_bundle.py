"""Bundles: opening, verifying, damage."""

import json
import shutil
from pathlib import Path

import pytest

from atas_deploy.core.bundle import IMAGE_ENCODER, MANIFEST, MERGES, Bundle, Manifest
from atas_deploy.core.errors import BundleError
from atas_deploy.models import open_model


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the embedded bundle."""
    return Path(shutil.copytree(open_model("atas-tiny").path, tmp_path / "copy"))


def test_manifest_round_trip() -> None:
    """Writing and reading a manifest gives an equal one."""
    manifest = open_model("atas-tiny").manifest
    assert Manifest.from_json(manifest.to_json(), where=Path("m")) == manifest


def test_verify_accepts_what_was_written(bundle: Path) -> None:
    """An untouched copy is valid and has the same identity."""
    copy = Bundle.open(bundle)
    copy.verify()
    assert copy.fingerprint == open_model("atas-tiny").fingerprint


def test_verify_finds_one_changed_bit(bundle: Path) -> None:
    """Same size, other content: opening passes, verifying does not."""
    data = bytearray((bundle / IMAGE_ENCODER).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / IMAGE_ENCODER).write_bytes(data)
    with pytest.raises(BundleError, match=f"{IMAGE_ENCODER} has changed"):
        Bundle.open(bundle).verify()


@pytest.mark.parametrize("name", [IMAGE_ENCODER, MERGES])
def test_missing_and_truncated_files_are_named(bundle: Path, name: str) -> None:
    """A file that is cut or gone is found when the bundle is opened."""
    (bundle / name).write_bytes(b"short")
    with pytest.raises(BundleError, match=f"{name} has 5 bytes"):
        Bundle.open(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing, expected"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a bundle manifest"),
        ("[]", "not a bundle manifest"),
        ('{"format": "zip", "format_version": 1}', "has format 'zip'"),
        ('{"format": "atas-deploy-bundle", "format_version": 2}', "version 2.*upgrade"),
        ('{"format": "atas-deploy-bundle", "format_version": 1}', "cannot be used"),
    ],
)
def test_bad_manifests(bundle: Path, text: str, message: str) -> None:
    """Each kind of wrong manifest has its sentence."""
    (bundle / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_size", 0),
        ("patch_size", "16"),
        ("logit_scale", None),
        ("context_length", -1),
        ("precision", "int8"),
    ],
)
def test_impossible_values_are_named(bundle: Path, field: str, value: object) -> None:
    """A number or precision that no model can have is found before anything runs."""
    data = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(data | {field: value}))
    with pytest.raises(BundleError, match=f"{field} is {value!r}"):
        Bundle.open(bundle)


def test_fields_of_later_releases_are_ignored(bundle: Path) -> None:
    """A manifest of the same format version may carry more."""
    data = json.loads((bundle / MANIFEST).read_text())
    data["files"][MERGES]["colour"] = data["colour"] = "blue"
    (bundle / MANIFEST).write_text(json.dumps(data))
    assert Bundle.open(bundle).manifest == open_model("atas-tiny").manifest
