"""What ``inspectd calibrate`` says of the revision that it made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from inspectd.cli.output import show

if TYPE_CHECKING:
    from inspectd.core.bundle import Bundle


def as_json(bundle: Bundle, seconds: float) -> dict[str, Any]:
    """What ``--json`` writes."""
    from inspectd.core.bundle import REPORT

    threshold = bundle.threshold
    return {
        "product": bundle.manifest.product,
        "revision": bundle.manifest.revision,
        "path": str(bundle.path),
        "report": str(bundle.path / REPORT),
        "threshold": threshold.image,
        "pixel_threshold": threshold.pixel,
        "review_below": threshold.review_below,
        "policy": threshold.policy,
        "promise": "" if bundle.manifest.policy is None else bundle.manifest.policy.promise,
        "basis": threshold.basis,
        "f1": threshold.f1,
        "precision": threshold.precision,
        "recall": threshold.recall,
        "escapes": threshold.escapes,
        "overkill": threshold.overkill,
        "n_good": threshold.n_good,
        "n_defect": threshold.n_defect,
        **bundle.manifest.metrics,
        "runtime": bundle.manifest.tools.get("runtime"),
        "remarks": list(bundle.manifest.remarks),
        "seconds": round(seconds, 3),
    }


def revision_table(bundle: Bundle) -> Table:
    """For the terminal."""
    from inspectd.core.scope import scope_facts

    threshold, metrics = bundle.threshold, bundle.manifest.metrics
    table = Table(title=f"{bundle.manifest.product} {bundle.manifest.revision}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    basis = f"{threshold.n_good} good, {threshold.n_defect} with {threshold.basis} defects"
    pixel = "none" if threshold.pixel is None else f"{threshold.pixel:.6g}"
    for name, text in scope_facts(bundle.manifest.scope, bundle.manifest.preprocessing).items():
        table.add_row(name, text)
    table.add_row("hold-out pictures", basis)
    table.add_row("threshold", f"{threshold.image:.6g}, per pixel {pixel}")
    table.add_row("policy", threshold.policy)
    if threshold.review_below is not None:
        table.add_row("review band", f"up to {threshold.review_below:.6g}")
    if threshold.n_defect:
        table.add_row("F1", f"{threshold.f1:.3f}")
        table.add_row("precision, recall", f"{threshold.precision:.3f}, {threshold.recall:.3f}")
    escapes = rate(threshold.escapes, threshold.n_defect, threshold.escape_rate_interval)
    overkill = rate(threshold.overkill, threshold.n_good, threshold.overkill_rate_interval)
    table.add_row("escapes", escapes)
    table.add_row("overkill", overkill)
    for key, name in METRICS.items():
        if key in metrics:
            table.add_row(name, f"{metrics[key]:.3f}")
    if SIMULATED_THRESHOLD in metrics:
        f1 = f"F1 {metrics['simulated_f1']:.3f} on the real ones"
        table.add_row("by simulated defects", f"{metrics[SIMULATED_THRESHOLD]:.6g}, {f1}")
    return table


SIMULATED_THRESHOLD = "simulated_threshold"
"""Key of a manifest's metrics where real defects were compared with simulated ones."""


METRICS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "PRO to FPR 0.3",
}
"""Keys of a manifest's metrics and of an evaluation to their names for people."""


def rate(count: int, n: int, interval: tuple[float, float]) -> str:
    """A count with its rate's 95 % interval: ``1 of 20 (0.9 to 23.6 % at 95 %)``."""
    low, high = (100 * end for end in interval)
    return f"{count} of {n} (rate {low:.1f} to {high:.1f} % at 95 %)"


def show_next(bundle: Bundle, state_dir: Path | None) -> None:
    """Where the report is, and what to type."""
    from inspectd.core.bundle import REPORT
    from inspectd.core.paths import cache_dir

    product = bundle.manifest.product
    place = f" --state-dir {shlex.quote(str(state_dir))}" if state_dir else ""
    show(Text.assemble(("report  ", "bold"), str(bundle.path / REPORT)))
    show(Text("next", "bold"))
    show(Text(f"  inspectd evaluate --product {product} --images FOLDER{place}"))
    show(Text("  inspectd run --config FILE"))
    part = bundle.manifest.precisions.get("int8")
    if part is not None:
        name = part.runtime.partition("-")[0]
        proof = f"proven on this machine, in {cache_dir()}"
        show(Text(f'  runtime = "{name}-int8" in it takes the int8 model ({proof})'))
