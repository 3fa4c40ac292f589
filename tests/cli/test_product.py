"""``inspectd product``: list, show, activate, rollback, verify."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from inspectd.core.bundle import MANIFEST, MODEL, read_manifest, write_manifest
from inspectd.core.store import ProductStore

Invoke = Callable[..., Result]


@pytest.fixture
def two_revisions(state: Path) -> tuple[ProductStore, str, str]:
    """A store whose product has a second, inactive revision; names of the first and second."""
    store = ProductStore(state / "products")
    first = store.current("flange")
    second = f"r0002-{first.split('-')[1]}"
    folder = store.path("flange", first).parent
    shutil.copytree(folder / first, folder / second)
    manifest = read_manifest(folder / first)
    write_manifest(folder / second, manifest.model_copy(update={"revision": second}))
    return store, first, second


def test_list(invoke: Invoke, two_revisions: tuple[ProductStore, str, str]) -> None:
    """The list has each product's active revision, and the JSON all revisions too."""
    _, first, second = two_revisions
    table = invoke("product", "list")
    assert table.exit_code == 0, table.output
    assert "flange" in table.stdout
    assert first in table.stdout
    (row,) = json.loads(invoke("product", "list", "--json").stdout)
    assert row["active"] == first
    assert row["revisions"] == [first, second]
    assert row["scorer"] == "protoad"


def test_list_of_nothing(invoke: Invoke) -> None:
    """Without a product the list is empty, which is no error, and says how one is made."""
    result = invoke("product", "list")
    assert result.exit_code == 0
    assert "inspectd calibrate" in result.stderr
    assert json.loads(invoke("product", "list", "--json").stdout) == []


def test_list_shows_what_is_broken(invoke: Invoke, state: Path) -> None:
    """A product without a readable manifest stays in the list, with its problem."""
    (ProductStore(state / "products").open("flange").path / MANIFEST).write_text("{")
    result = invoke("product", "list")
    assert result.exit_code == 0
    assert "can't be read" in result.stdout
    (row,) = json.loads(invoke("product", "list", "--json").stdout)
    assert "can't be read" in row["problem"]


def test_show(invoke: Invoke, state: Path) -> None:
    """Show gives recipe, threshold, files with their sizes, and the remarks."""
    bundle = ProductStore(state / "products").open("flange")
    result = invoke("product", "show", "flange")
    assert result.exit_code == 0, result.output
    for text in (bundle.manifest.revision, "(active)", "protoad on builtin", MODEL):
        assert text in result.stdout
    for remark in bundle.manifest.remarks:
        assert remark in result.stdout
    shown = json.loads(invoke("product", "show", "flange", "--json").stdout)
    assert shown["manifest"]["threshold"]["image"] == bundle.threshold.image
    assert shown["sizes"][MODEL] == (bundle.path / MODEL).stat().st_size
    assert shown["active"] is True


def test_activate_and_rollback(
    invoke: Invoke, two_revisions: tuple[ProductStore, str, str]
) -> None:
    """Activate makes a revision the active one; rollback goes back, and back again."""
    store, first, second = two_revisions
    result = invoke("product", "activate", "flange", second)
    assert result.exit_code == 0, result.output
    assert store.current("flange") == second
    assert f"was {first}" in result.stdout
    assert "SIGHUP" in result.stderr
    assert invoke("product", "rollback", "flange").exit_code == 0
    assert store.current("flange") == first
    assert invoke("product", "rollback", "flange").exit_code == 0
    assert store.current("flange") == second


def test_rollback_without_a_former_one(invoke: Invoke, state: Path) -> None:
    """Where nothing was active before there is nothing to go back to."""
    result = invoke("product", "rollback", "flange")
    assert result.exit_code == 2
    assert "no earlier active revision" in result.stderr


def test_damaged_revision_is_not_activated(
    invoke: Invoke, two_revisions: tuple[ProductStore, str, str]
) -> None:
    """A revision with a damaged file is refused by the file's name, and the active one stays."""
    store, first, second = two_revisions
    with (store.path("flange", second) / MODEL).open("ab") as file:
        file.write(b"x")
    result = invoke("product", "activate", "flange", second)
    assert result.exit_code == 1
    assert f"{MODEL} is damaged" in result.stderr
    assert store.current("flange") == first


def test_verify(invoke: Invoke, state: Path) -> None:
    """Verify checks hashes and that the golden pictures reproduce their scores."""
    result = invoke("product", "verify", "flange", "--runtime", "onnxruntime", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "files are as written" in result.stdout
    assert "golden pictures reproduce" in result.stdout


def test_verify_finds_another_score(invoke: Invoke, state: Path) -> None:
    """A golden picture whose score doesn't come out again is named, and verify fails."""
    bundle = ProductStore(state / "products").open("flange")
    golden, *others = bundle.manifest.golden
    changed = golden.model_copy(update={"score": golden.score + 1.0})
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"golden": (changed, *others)}))
    result = invoke("product", "verify", "flange", "--runtime", "onnxruntime")
    assert result.exit_code == 1
    assert "golden/00.png scores" in result.stderr


def test_surplus_file(invoke: Invoke, state: Path) -> None:
    """A file that the manifest doesn't list makes a revision unusable, and is named."""
    (ProductStore(state / "products").open("flange").path / "extra.sh").write_text("")
    result = invoke("product", "verify", "flange")
    assert result.exit_code == 1
    assert "extra.sh is not listed" in result.stderr
