"""The committed JSON schema says what the manifest really is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from inspectd.core import schema
from inspectd.core.bundle import MANIFEST
from inspectd.core.schema import REGENERATE, SCHEMA, manifest_schema
from inspectd.core.store import ProductStore


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """The committed schema, itself a valid one."""
    content = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


@pytest.fixture
def manifest(tiny_store: ProductStore) -> dict[str, object]:
    """The manifest of a product that was really calibrated."""
    path = tiny_store.path("tiny", tiny_store.current("tiny")) / MANIFEST
    return json.loads(path.read_text())


def test_the_committed_schema_is_fresh() -> None:
    """The file is what the model says today."""
    assert SCHEMA.is_file(), f"{SCHEMA} is missing; make it with: {REGENERATE}"
    assert json.loads(SCHEMA.read_text()) == json.loads(manifest_schema()), (
        f"{SCHEMA.name} is stale: the manifest's model has changed. Raise SCHEMA_VERSION if older "
        f"programs can't read the new manifest, then write the file anew with: {REGENERATE}"
    )


def test_the_command_writes_the_committed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test recommends does write the schema."""
    monkeypatch.setattr(schema, "SCHEMA", tmp_path / SCHEMA.name)
    schema.main()
    assert (tmp_path / SCHEMA.name).read_text() == manifest_schema()


def test_a_real_manifest_is_valid(
    validator: Draft202012Validator, manifest: dict[str, object]
) -> None:
    """What calibration writes, others can validate."""
    assert list(validator.iter_errors(manifest)) == []


@pytest.mark.parametrize(
    "change", [{"schema_version": 4}, {"surprise": 1}, {"product": "../etc"}, {"files": {"a": "b"}}]
)
def test_a_wrong_manifest_is_not(
    validator: Draft202012Validator, manifest: dict[str, object], change: dict[str, object]
) -> None:
    """Another version, unknown keys, paths and short hashes are told by the schema too."""
    assert list(validator.iter_errors({**manifest, **change}))
