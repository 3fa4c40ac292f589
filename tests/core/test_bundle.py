"""The bundle opens only if it is, to the byte, what was written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspectd.core.bundle import (
    MANIFEST,
    MODEL,
    SEAL,
    Bundle,
    open_bundle,
    read_manifest,
    sha256_of,
    write_manifest,
)
from inspectd.core.errors import BundleError, BundleIntegrityError, BundleSchemaError
from inspectd.core.scope import ROI, WHOLE, ScopePart, write_roi

FILES = [MODEL, "golden/00.png", "golden/01.png", "holdout.json", "report.html", SEAL, MANIFEST]


@pytest.fixture
def bundle(tmp_path: Path, make_bundle: Callable[[Path], Bundle]) -> Bundle:
    """A bundle made by hand that a test may damage."""
    return make_bundle(tmp_path / "r0001-0123abcd")


def _resealed(bundle: Bundle, **update: Any) -> Path:
    """Writes the manifest anew, seal and all: the work of someone who means it."""
    write_manifest(bundle.path, bundle.manifest.model_copy(update=update))
    return bundle.path


def _listing(bundle: Bundle, name: str, digest: str) -> Path:
    return _resealed(bundle, files={**bundle.manifest.files, name: digest})


def test_what_was_written_comes_back(bundle: Bundle) -> None:
    """Manifest, threshold, graph and golden pictures are those that were put in."""
    opened = open_bundle(bundle.path)
    assert opened.manifest == bundle.manifest
    assert opened.threshold.image == 0.5
    assert opened.threshold.escape_rate_interval == (0.0, 1.0)
    assert opened.graph.path == bundle.path / MODEL
    assert opened.graph.size == (32, 40)
    golden = list(opened.golden_images())
    assert [part.score for part, _ in golden] == [0.2, 0.8]
    np.testing.assert_array_equal(golden[1][1], np.full((32, 40, 3), 40))


def test_the_seal_can_be_checked_without_this_program(bundle: Bundle) -> None:
    """The seal is a line as ``sha256sum --check`` reads it."""
    expected = f"{sha256_of(bundle.path / MANIFEST)}  {MANIFEST}\n"
    assert (bundle.path / SEAL).read_text() == expected


def test_every_file_of_a_bundle_is_among_those_tested(bundle: Bundle) -> None:
    """The list of the next tests is complete."""
    files = (path for path in bundle.path.rglob("*") if path.is_file())
    assert {path.relative_to(bundle.path).as_posix() for path in files} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_by_name(bundle: Bundle, name: str) -> None:
    """Wherever in whatever file a byte flips, the bundle is refused and the file named."""
    path = bundle.path / name
    content = path.read_bytes()
    named = MANIFEST if name == SEAL else name
    for place in range(0, len(content), 1 + len(content) // 400):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BundleError, match=named):
            open_bundle(bundle.path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(bundle: Bundle, name: str) -> None:
    """A lost file is named; without a manifest it is no revision at all."""
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=name):
        open_bundle(bundle.path)


def test_a_damaged_files_error_carries_its_name(bundle: Bundle) -> None:
    """Path and name are attributes; the message says what to do."""
    (bundle.path / MODEL).write_bytes(b"other")
    with pytest.raises(BundleIntegrityError, match="restore the revision or calibrate") as caught:
        open_bundle(bundle.path)
    assert caught.value.name == MODEL
    assert caught.value.path == bundle.path


@pytest.mark.parametrize("name", ["extra.bin", "golden/02.png", ".hidden", "deep/er/extra.pkl"])
def test_a_surplus_file_is_refused_by_name(bundle: Bundle, name: str) -> None:
    """What the manifest doesn't list doesn't belong."""
    (bundle.path / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle.path / name).write_bytes(b"x")
    with pytest.raises(BundleIntegrityError, match=f"{name} is not listed"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("target", [".", "nowhere", "/"])
def test_a_surplus_link_is_refused(bundle: Bundle, target: str) -> None:
    """A link to a folder or to nothing doesn't belong either."""
    (bundle.path / "link").symlink_to(target)
    with pytest.raises(BundleIntegrityError, match="link is not listed"):
        open_bundle(bundle.path)


def test_a_surplus_pipe_is_refused(bundle: Bundle) -> None:
    """A pipe is refused unread: reading it would wait forever."""
    os.mkfifo(bundle.path / "pipe")
    with pytest.raises(BundleIntegrityError, match="pipe is not listed"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_a_link_in_a_files_place_is_refused(bundle: Bundle, tmp_path: Path, where: str) -> None:
    """A link is refused even if what it points to has the right hash: it could change later."""
    model = bundle.path / MODEL
    aside = tmp_path / "aside" if where == "outside" else bundle.path / "aside"
    model.rename(aside)
    model.symlink_to(aside)
    with pytest.raises(BundleIntegrityError, match=f"{MODEL} lies outside the bundle or is a link"):
        open_bundle(bundle.path)


def test_a_linked_folder_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """A link among a file's folders is refused too."""
    (bundle.path / "golden").rename(tmp_path / "aside")
    (bundle.path / "golden").symlink_to(tmp_path / "aside")
    with pytest.raises(BundleIntegrityError, match=r"golden/00\.png lies outside"):
        open_bundle(bundle.path)


def test_a_bundle_may_be_reached_by_a_link(bundle: Bundle, tmp_path: Path) -> None:
    """The store's ``current`` is a link to the folder itself: that is fine."""
    (tmp_path / "current").symlink_to(bundle.path)
    assert open_bundle(tmp_path / "current").manifest == bundle.manifest


@pytest.mark.parametrize("name", ["../secret", "golden/../../secret", "{absolute}"])
def test_a_file_outside_the_bundle_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """A manifest can't reach out of its folder, even with the right hash."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    name = name.format(absolute=secret)
    with pytest.raises(BundleIntegrityError, match="lies outside the bundle"):
        open_bundle(_listing(bundle, name, sha256_of(secret)))


def test_a_region_comes_back_and_must_be_one(bundle: Bundle) -> None:
    """The region is read at the map's size; another size and an empty one are refused."""
    roi = np.zeros((32, 40), np.uint8)
    roi[4:9, 5:8] = 255
    scope = ScopePart(roi=ROI, roi_share=15 / 1280, min_area_px=3.0, mm_per_pixel=0.5)
    for wrong in (np.zeros_like(roi), roi[:-1], roi.T):
        opened = open_bundle(_with_region(bundle, wrong, scope))
        with pytest.raises(BundleError, match="calibrate anew"):
            opened.scope()
    opened = open_bundle(_with_region(bundle, roi, scope))
    found = opened.scope()
    assert found.roi is not None
    np.testing.assert_array_equal(found.roi, roi)
    assert (found.min_pixels, found.mm_per_pixel) == (2, 0.5)  # 3 * 32 * 40 / (48 * 64) = 1.25
    files = {name: sha for name, sha in opened.manifest.files.items() if name != ROI}
    with pytest.raises(BundleIntegrityError, match=r"roi\.png is not listed"):
        open_bundle(_resealed(opened, files=files))


def _with_region(bundle: Bundle, roi: np.ndarray, scope: ScopePart) -> Path:
    write_roi(bundle.path, roi)
    files = {**bundle.manifest.files, ROI: sha256_of(bundle.path / ROI)}
    return _resealed(bundle, files=files, scope=scope)


@pytest.mark.parametrize("name", [MODEL, "golden/00.png"])
def test_what_decides_must_be_listed(bundle: Bundle, name: str) -> None:
    """Neither the model nor a golden picture may escape the check of hashes."""
    files = {key: value for key, value in bundle.manifest.files.items() if key != name}
    with pytest.raises(BundleIntegrityError, match=f"{name} is not listed"):
        open_bundle(_resealed(bundle, files=files))


def _edited(bundle: Bundle, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Changes the manifest's JSON, valid or not."""
    content = json.loads((bundle.path / MANIFEST).read_text())
    edit(content)
    (bundle.path / MANIFEST).write_text(json.dumps(content))
    return bundle.path


@pytest.mark.parametrize("version", [4, 99, 0, True, "1", None])
def test_another_schema_is_refused_before_all_else(bundle: Bundle, version: object) -> None:
    """A newer manifest, whatever else is in it, is refused with both versions and the remedy."""
    path = _edited(bundle, lambda m: m.update(schema_version=version, news=[1, 2]))
    with pytest.raises(
        BundleSchemaError, match=rf"version {version}.* knows 1 to 3; update inspectd"
    ):
        open_bundle(path)


def test_a_manifest_of_version_2_counts_the_whole_picture(bundle: Bundle) -> None:
    """What version 3 added is absent there: no region, no least area, no tiles."""

    def downgrade(content: dict[str, Any]) -> None:
        content["schema_version"] = 2
        del content["scope"], content["preprocessing"]["tiles"]

    path = _edited(bundle, downgrade)
    write_manifest(path, read_manifest(path))
    opened = open_bundle(path)
    assert opened.manifest.schema_version == 2
    assert opened.scope() == WHOLE
    assert opened.graph.size == (32, 40)


def test_a_manifest_of_version_1_is_read(bundle: Bundle) -> None:
    """What version 2 added is absent there: no policy, no parent, no review band."""

    def downgrade(content: dict[str, Any]) -> None:
        content["schema_version"] = 1
        del content["scope"], content["preprocessing"]["tiles"]
        for key in ("policy", "parent"):
            del content[key]
        for key in ("review_below", "review_good", "review_defect"):
            del content["threshold"][key]

    manifest = read_manifest(_edited(bundle, downgrade))
    assert manifest.schema_version == 1
    assert manifest.policy is manifest.parent is manifest.threshold.review_below is None
    assert manifest.threshold.as_record() == bundle.threshold


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("threshold"), "threshold"),
        (lambda m: m["threshold"].update(image=float("nan")), "threshold.image"),
        (lambda m: m["threshold"].update(image=float("inf")), "threshold.image"),
        (lambda m: m["threshold"].update(basis="guessed"), "threshold.basis"),
        (lambda m: m["threshold"].update(review_below=0.5), "threshold"),
        (lambda m: m.update(parent="latest"), "parent"),
        (lambda m: m["policy"].update(limits={"x": float("nan")}), "policy.limits.x"),
        (lambda m: m["preprocessing"].update(crop=[4, 4]), "preprocessing.crop.0"),
        (lambda m: m["scope"].update(roi="../roi.png"), "scope.roi"),
        (lambda m: m["scope"].update(roi_share=0.5), "scope"),
        (lambda m: m["scope"].update(min_area_px=-1), "scope.min_area_px"),
        (
            lambda m: m["preprocessing"].update(tiles={"size": [32, 48], "overlap": 8}),
            "preprocessing",
        ),
        (
            lambda m: m["preprocessing"].update(tiles={"size": [32, 32], "overlap": 17}),
            "preprocessing.tiles",
        ),
        (lambda m: m.update(product="../etc"), "product"),
        (lambda m: m.update(revision="latest"), "revision"),
        (lambda m: m["golden"][0].update(file="../00.png"), "golden.0.file"),
        (lambda m: m["files"].update({MODEL: "abc"}), "files.model.onnx"),
    ],
)
def test_an_invalid_manifest_is_refused_at_the_place(
    bundle: Bundle, edit: Callable[[dict[str, Any]], object], where: str
) -> None:
    """The message names the first field that is wrong."""
    with pytest.raises(BundleError, match=rf"not valid at {where}: "):
        open_bundle(_edited(bundle, edit))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 200_000, b'{"a": "' + b"x" * 5 * 2**20 + b'"}'],
    ids=["empty", "cut", "binary", "deep", "huge"],
)
def test_a_manifest_that_is_no_json_is_refused(bundle: Bundle, content: bytes) -> None:
    """Damage, depth and size end in an error of ours, not in a crash."""
    (bundle.path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=f"{MANIFEST} can't be read"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("content", [b"[]", b"1", b"null"])
def test_a_manifest_that_is_no_object_is_refused(bundle: Bundle, content: bytes) -> None:
    """JSON of another kind has no schema version that this program knows."""
    (bundle.path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleSchemaError, match="schema version None"):
        open_bundle(bundle.path)


def test_a_folder_without_manifest_is_no_revision(tmp_path: Path) -> None:
    """An empty folder, a missing one and a file are told apart from a damaged revision."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            BundleError, match=r"has no manifest\.json; it is not a product revision"
        ):
            read_manifest(path)
    with pytest.raises(BundleError, match="can't be read"):
        read_manifest(tmp_path / "file")
