"""The store: revisions are whole, links flip at once, and a failure changes nothing."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from inspectd.core.bundle import MODEL, Bundle
from inspectd.core.errors import BundleError, BundleIntegrityError, ProductError
from inspectd.core.store import ProductStore

FIRST, SECOND = "r0001-0123abcd", "r0002-4567cdef"


@pytest.fixture
def store(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> ProductStore:
    """A store with two revisions of the product ``flange``, none active yet."""
    for revision in (FIRST, SECOND):
        make_bundle(tmp_path / "flange" / revision, revision=revision)
    return ProductStore(tmp_path)


def _tree(root: Path) -> dict[str, str]:
    """Every entry below a folder, with a link's target or a file's size."""
    entries = {}
    for path in sorted(root.rglob("*")):
        what = os.readlink(path) if path.is_symlink() else str(path.stat().st_size)  # noqa: PTH115
        entries[path.relative_to(root).as_posix()] = what
    return entries


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    """A store that doesn't exist yet is empty and isn't made by looking."""
    store = ProductStore(tmp_path / "none")
    assert store.products() == []
    assert store.revisions("flange") == []
    assert store.previous("flange") is None
    assert not store.root.exists()


def test_no_active_revision_is_explained(store: ProductStore) -> None:
    """The error lists the products there are and how to make one."""
    with pytest.raises(ProductError, match=r"products: flange\).*inspectd calibrate --product"):
        store.current("gear")


def test_activate_then_roll_back_and_forth(store: ProductStore) -> None:
    """Activation remembers what was active before; rollback swaps the two."""
    assert store.activate("flange", FIRST) is None
    assert store.activate("flange", SECOND) == FIRST
    assert (store.current("flange"), store.previous("flange")) == (SECOND, FIRST)
    assert store.rollback("flange") == FIRST
    assert (store.current("flange"), store.previous("flange")) == (FIRST, SECOND)
    assert store.open("flange").manifest.revision == FIRST


def test_activating_the_active_one_keeps_the_way_back(store: ProductStore) -> None:
    """A second activation of the same revision doesn't make it its own predecessor."""
    store.activate("flange", FIRST)
    store.activate("flange", SECOND)
    assert store.activate("flange", SECOND) == SECOND
    assert store.previous("flange") == FIRST


def test_rollback_without_a_former_one_is_refused(store: ProductStore) -> None:
    """There is nothing to go back to after the first activation."""
    store.activate("flange", FIRST)
    with pytest.raises(ProductError, match="no earlier active revision"):
        store.rollback("flange")


def test_a_damaged_revision_is_never_activated(store: ProductStore) -> None:
    """The refusal names the file, and every link stays as it was."""
    store.activate("flange", FIRST)
    (store.path("flange", SECOND) / MODEL).write_bytes(b"other")
    before = _tree(store.root)
    with pytest.raises(BundleIntegrityError, match=MODEL):
        store.activate("flange", SECOND)
    assert _tree(store.root) == before


def test_rollback_to_a_damaged_revision_is_refused(store: ProductStore) -> None:
    """Going back is no way around the check."""
    store.activate("flange", FIRST)
    store.activate("flange", SECOND)
    (store.path("flange", FIRST) / MODEL).unlink()
    with pytest.raises(BundleIntegrityError, match=MODEL):
        store.rollback("flange")
    assert store.current("flange") == SECOND


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../flange", "a/b", "/etc", "Flange", "-x", "a" * 65]
)
def test_a_name_can_not_leave_the_store(store: ProductStore, name: str) -> None:
    """A product's name is plain; a path in its place is refused by every method."""
    for method in (store.revisions, store.current, store.previous, store.rollback):
        with pytest.raises(ProductError, match="is not a product's name"):
            method(name)


@pytest.mark.parametrize("revision", ["r0003-00000000", "..", "current", "", f"../flange/{FIRST}"])
def test_an_unknown_revision_is_refused(store: ProductStore, revision: str) -> None:
    """Only a revision's own name finds it; the error lists those there are."""
    with pytest.raises(ProductError, match=f"has: {FIRST}, {SECOND}"):
        store.path("flange", revision)


def test_revisions_are_in_order_of_their_number(store: ProductStore) -> None:
    """The ten-thousandth comes after the second, and the next one counts on."""
    shutil.copytree(store.path("flange", FIRST), store.root / "flange" / "r10000-00000000")
    (store.root / "flange" / "notes.txt").touch()
    assert store.revisions("flange") == [FIRST, SECOND, "r10000-00000000"]
    assert store.next_revision("flange", "ffeeddcc99") == "r10001-ffeeddcc"
    assert store.next_revision("gear", "ffeeddcc99") == "r0001-ffeeddcc"


def test_a_link_to_nothing_is_no_active_revision(store: ProductStore) -> None:
    """If the active revision was deleted by hand the store says there is none."""
    store.activate("flange", FIRST)
    shutil.rmtree(store.root / "flange" / FIRST)
    with pytest.raises(ProductError, match="no active revision"):
        store.current("flange")


def test_a_link_out_of_the_store_is_not_followed(store: ProductStore, tmp_path: Path) -> None:
    """``current`` counts only if it names a revision of this product."""
    (tmp_path / "flange" / "current").symlink_to(tmp_path / "flange" / FIRST)
    with pytest.raises(ProductError, match="no active revision"):
        store.current("flange")


def test_a_commit_makes_a_revision_at_once(
    tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    """A staged bundle becomes a revision by one rename and is readable for other users."""
    store = ProductStore(tmp_path / "store")
    with store.staging("flange") as folder:
        make_bundle(folder / "x")
        assert store.products() == []
        bundle = store.commit("flange", folder / "x", FIRST)
    assert bundle.path == tmp_path / "store" / "flange" / FIRST
    assert bundle.path.stat().st_mode & 0o777 == 0o755
    assert store.products() == ["flange"]
    assert os.listdir(tmp_path / "store" / "flange") == [FIRST]  # noqa: PTH208


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_staging_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Neither the staging directory nor an empty product stays behind."""
    store = ProductStore(tmp_path / "store")
    with pytest.raises(error), store.staging("flange") as folder:  # noqa: PT012 - one thought
        (folder / MODEL).write_bytes(b"half")
        raise error
    assert _tree(tmp_path / "store") == {}


def test_an_interrupted_staging_leaves_the_others(store: ProductStore) -> None:
    """The product's other revisions and links are untouched."""
    store.activate("flange", FIRST)
    before = _tree(store.root)
    with pytest.raises(RuntimeError), store.staging("flange"):
        raise RuntimeError
    assert _tree(store.root) == before


def test_a_damaged_staging_is_not_committed(
    tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    """What can't be opened never becomes a revision."""
    store = ProductStore(tmp_path / "store")
    with store.staging("flange") as folder:
        make_bundle(folder / "x")
        (folder / "x" / "surplus").touch()
        with pytest.raises(BundleError, match="surplus"):
            store.commit("flange", folder / "x", FIRST)
    assert store.revisions("flange") == []


def test_a_commit_needs_a_revisions_name(store: ProductStore, tmp_path: Path) -> None:
    """A revision can't be committed under a name that the store wouldn't find."""
    with pytest.raises(ProductError, match="not a revision's name"):
        store.commit("flange", tmp_path, "../latest")


def test_a_place_that_can_not_be_written_is_explained(tmp_path: Path) -> None:
    """The error says how to choose another place."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(ProductError, match=r"can't be written.*INSPECTD_STATE_DIR"),
        ProductStore(tmp_path / "file").staging("flange"),
    ):
        pass


def test_a_reader_sees_one_or_the_other(store: ProductStore) -> None:
    """While another thread flips the link to and fro there is always an active revision."""
    store.activate("flange", FIRST)
    done = threading.Event()

    def flip() -> None:
        for _ in range(15):
            store.activate("flange", SECOND)
            store.activate("flange", FIRST)
        done.set()

    writer = threading.Thread(target=flip)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(store.current("flange"))
    writer.join()
    assert seen <= {FIRST, SECOND}
