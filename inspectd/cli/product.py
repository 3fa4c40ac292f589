"""``inspectd product``: what revisions there are, which one is active, and whether it is sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inspectd.cli.options import (
    JsonFlag,
    ProductArgument,
    RevisionArgument,
    RuntimeName,
    RuntimeOption,
    StateDir,
    Threads,
    complete_revision,
    open_store,
)
from inspectd.cli.output import examples, note, register, show, show_json
from inspectd.cli.policy import policy_text
from inspectd.core.errors import BundleError, ProductError

if TYPE_CHECKING:
    from inspectd.core.bundle import Manifest
    from inspectd.core.store import ProductStore

RELOAD = "a daemon that runs takes it over on SIGHUP (systemctl reload inspectd)"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="List, inspect, activate and verify product revisions.",
    epilog=examples(
        "inspectd product list",
        "inspectd product show bottle",
        "inspectd product activate bottle r0002-1a2b3c4d",
        "inspectd product rollback bottle",
    ),
)


def list_products(as_json: JsonFlag = False, state_dir: StateDir = None) -> None:
    """All products with their active revision."""
    store = open_store(state_dir)
    rows = [_row(store, name) for name in store.products()]
    if as_json:
        show_json(rows)
    elif rows:
        show(_table(rows))
    else:
        note(f"no product below {store.root}; inspectd calibrate makes one")


def show_product(
    product: ProductArgument,
    revision: RevisionArgument = None,
    as_json: JsonFlag = False,
    state_dir: StateDir = None,
) -> None:
    """One revision: recipe, threshold and what it rests on, files."""
    from inspectd.core.bundle import read_manifest

    store = open_store(state_dir)
    path = store.path(product, revision or store.current(product))
    manifest = read_manifest(path)
    sizes = {file: _size(path / file) for file in sorted(manifest.files)}
    if as_json:
        active = _active(store, product) == manifest.revision
        content = manifest.model_dump(mode="json")
        show_json({"path": str(path), "active": active, "sizes": sizes, "manifest": content})
        return
    show(_facts(store, path, manifest))
    show(_files(sizes))
    for remark in manifest.remarks:
        show(remark)


def activate(
    product: ProductArgument,
    revision: Annotated[
        str, typer.Argument(help="The revision.", autocompletion=complete_revision)
    ],
    state_dir: StateDir = None,
) -> None:
    """Make a revision the active one, after checking its files."""
    before = open_store(state_dir).activate(product, revision)
    was = f" (was {before})" if before not in (None, revision) else ""
    show(f"{product}: {revision} is active{was}")
    note(RELOAD)


def rollback(product: ProductArgument, state_dir: StateDir = None) -> None:
    """Go back to the revision that was active before."""
    store = open_store(state_dir)
    was = _active(store, product)
    revision = store.rollback(product)
    show(f"{product}: {revision} is active again (was {was})")
    note(RELOAD)


def verify(
    product: ProductArgument,
    revision: RevisionArgument = None,
    runtime: RuntimeOption = RuntimeName.AUTO,
    threads: Threads = 0,
    state_dir: StateDir = None,
) -> None:
    """Check every file's hash, and that the golden pictures reproduce their scores here."""
    from inspectd.pipeline.inspector import Inspector
    from inspectd.runtimes import open_runtime

    bundle = open_store(state_dir).open(product, revision)
    manifest = bundle.manifest
    show(f"{product} {manifest.revision}: all {len(manifest.files)} files are as written")
    with open_runtime(bundle.graph, runtime.value, threads) as opened:
        worst = Inspector(bundle, opened).verify()
        show(
            f"{product} {manifest.revision}: {len(manifest.golden)} golden pictures reproduce "
            f"their scores on {opened.name} (at most {worst:.1e} apart)"
        )


def _active(store: ProductStore, product: str) -> str | None:
    try:
        return store.current(product)
    except ProductError:
        return None


def _row(store: ProductStore, product: str) -> dict[str, Any]:
    """One product for the list; a damaged one is listed too, with its problem."""
    from inspectd.core.bundle import read_manifest

    row: dict[str, Any] = {
        "product": product,
        "active": _active(store, product),
        "previous": store.previous(product),
        "revisions": store.revisions(product),
        "problem": None,
    }
    if row["active"] is None:
        return {**row, "problem": "no active revision; inspectd product activate"}
    try:
        manifest = read_manifest(store.path(product, row["active"]))
    except BundleError as error:
        return {**row, "problem": error.problem}
    return {
        **row,
        "created_at": manifest.created_at.isoformat(),
        "scorer": manifest.recipe.scorer,
        "backbone": manifest.recipe.backbone,
        "threshold": manifest.threshold.image,
        "basis": manifest.threshold.basis,
        "f1": manifest.threshold.f1,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    headings = (
        "product",
        "active",
        "made (UTC)",
        "method",
        "threshold",
        "F1 on hold-out",
        "revisions",
    )
    table = Table(*headings)
    for row in rows:
        count = str(len(row["revisions"]))
        if row["problem"]:
            table.add_row(
                row["product"], row["active"] or "-", row["problem"], "", "", "", count, style="red"
            )
            continue
        table.add_row(
            row["product"],
            row["active"],
            row["created_at"][:16].replace("T", " "),
            f"{row['scorer']}, {row['backbone']}",
            f"{row['threshold']:.6g}",
            f"{row['f1']:.3f} ({row['basis']})",
            count,
        )
    return table


def _facts(store: ProductStore, path: Path, manifest: Manifest) -> Table:
    from inspectd.core.scope import scope_facts

    threshold, recipe, data = manifest.threshold, manifest.recipe, manifest.dataset
    crop, resize = manifest.preprocessing.crop, manifest.preprocessing.resize
    source = manifest.preprocessing.source_size
    active = " (active)" if _active(store, manifest.product) == manifest.revision else ""
    pixel = "none" if threshold.pixel is None else f"{threshold.pixel:.6g}"
    rows = {
        "revision": f"{manifest.revision}{active}",
        "path": str(path),
        "made": f"{manifest.created_at:%Y-%m-%d %H:%M} UTC",
        "recipe": f"{recipe.scorer} on {recipe.backbone}, seed {recipe.seed}",
        "options": ", ".join(f"{key} {value}" for key, value in recipe.options.items()),
        "input (H x W)": f"{resize[0]} x {resize[1]}, centre {crop[0]} x {crop[1]}",
        **scope_facts(manifest.scope, manifest.preprocessing),
        "pictures (H x W)": f"{source[0]} x {source[1]}" if source else "several sizes",
        "learned from": f"{data.n_train} good pictures",
        "model of": manifest.parent or "this revision",
        "threshold": f"{threshold.image:.6g}, per pixel {pixel}",
        "policy": threshold.policy if manifest.policy is None else policy_text(manifest.policy),
        "review band": _band(threshold.image, threshold.review_below),
        "found on": f"{threshold.n_good} good, {threshold.n_defect} with {threshold.basis} defects",
        "F1": f"{threshold.f1:.3f}",
        "precision, recall": f"{threshold.precision:.3f}, {threshold.recall:.3f}",
        "escapes, overkill": f"{threshold.escapes}, {threshold.overkill}",
        "runtime": manifest.tools.get("runtime", "-"),
    }
    table = Table(title=manifest.product, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _band(image: float, review_below: float | None) -> str:
    return "none" if review_below is None else f"{image:.6g} to below {review_below:.6g}"


def _size(path: Path) -> int | None:
    """Bytes; None where the file is missing."""
    return path.stat().st_size if path.is_file() else None


def _files(sizes: dict[str, int | None]) -> Table:
    table = Table("file")
    table.add_column("KiB", justify="right")
    for name, size in sizes.items():
        table.add_row(name, "missing" if size is None else f"{size / 1024:,.1f}")
    return table


COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    ("list", list_products, ("inspectd product list", "inspectd product list --json")),
    ("show", show_product, ("inspectd product show bottle",)),
    ("activate", activate, ("inspectd product activate bottle r0002-1a2b3c4d",)),
    ("rollback", rollback, ("inspectd product rollback bottle",)),
    ("verify", verify, ("inspectd product verify bottle --runtime onnxruntime",)),
)
for _name, _function, _examples in COMMANDS:
    register(app, _name, _function, _examples)
