"""The papers' ablations, as far as two CPU cores go: one table a command, beside the papers' own.

``PYTHONPATH=. python tests/benchmarks/ablations.py TABLE``, by hand, never by the test suite.
Each row is calibrated and judged as in `half_split.py` (half of ``test/`` as hold-out set, the
other half judged), all with the same seed and the same number of steps. The papers' figures are
means of 15 categories after hundreds of epochs on a GPU: compare what a row changes, not its
height.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from half_split import SHARED, run

FIGURES = ("image_auroc", "pixel_auroc", "aupro", "pixel_ap")
HEADINGS = ("image AUROC", "pixel AUROC", "PRO", "pixel AP")


@dataclass(frozen=True, slots=True)
class Row:
    """One variant of a table."""

    name: str
    options: tuple[str, ...]
    """Of `inspectd calibrate`."""
    paper: tuple[float, ...] = ()
    """Image AUROC, pixel AUROC, PRO and pixel AP in %, as far as the paper has them."""


@dataclass(frozen=True, slots=True)
class Table:
    """One of a paper's tables."""

    source: str
    scorer: str
    rows: tuple[Row, ...]


def prn_modules() -> tuple[Row, ...]:
    """Table 4."""
    return (
        Row("U-Net alone", ("--modules", "none"), (97.4, 91.7, 88.6, 58.5)),
        Row("+ MP + MF", ("--modules", "prototypes,fusion"), (98.9, 98.5, 95.3, 77.0)),
        Row("+ MSA + MF", ("--modules", "fusion,attention"), (97.8, 97.0, 92.1, 74.0)),
        Row("+ MP + MSA", ("--modules", "prototypes,attention"), (98.7, 98.5, 95.4, 78.1)),
        Row("+ MP + MSA + MF (PRN)", (), (99.4, 99.0, 96.1, 78.6)),
    )


def prn_kinds() -> tuple[Row, ...]:
    """Table 5, without the row that drops the target areas, which are no option here."""
    return (
        Row("EA", ("--kinds", "extended"), (98.6, 97.2, 93.4, 75.7)),
        Row("EA + HEA", ("--kinds", "extended,heterologous"), (99.1, 98.4, 95.4, 77.4)),
        Row("EA + HOA", ("--kinds", "extended,homologous"), (98.6, 98.4, 95.7, 75.2)),
        Row("HEA + HOA", ("--kinds", "heterologous,homologous"), (98.7, 98.2, 95.1, 73.4)),
        Row("EA + HEA + HOA (PRN)", (), (99.4, 99.0, 96.1, 78.6)),
        Row("the same, EA always augmented", ("--unchanged", "0")),
    )


def prn_prototypes() -> tuple[Row, ...]:
    """Table 6, without 100 %, whose maps would be a file of hundreds of MB."""
    return (
        Row("5 %", ("--prototype-ratio", "0.05"), (99.2, 98.6, 95.4, 78.1)),
        Row("10 %", (), (99.4, 99.0, 96.1, 78.6)),
        Row("20 %", ("--prototype-ratio", "0.2"), (99.2, 98.8, 95.7, 77.3)),
    )


def prn_seen() -> tuple[Row, ...]:
    """Table 7."""
    return (
        Row("1", ("--seen", "1"), (98.8, 98.3, 95.4, 74.7)),
        Row("5", ("--seen", "5"), (99.2, 98.6, 95.6, 76.4)),
        Row("10", (), (99.4, 99.0, 96.1, 78.6)),
    )


def mpfnet_noise() -> tuple[Row, ...]:
    """Table IV, whose figures the text at hand lacks but for the best, at 0.018."""
    return tuple(
        Row(f"{noise:g} of features with deviation 1", ("--noise", f"{noise:g}"))
        for noise in (0.04, 0.08, 0.16, 0.32, 0.64)
    )


def mpfnet_prototypes() -> tuple[Row, ...]:
    """Table VI, whose figures the text at hand lacks: some 12 % is said to be enough."""
    ways = [("residual", f"{ratio:g}") for ratio in (0.02, 0.06, 0.12)] + [("prototype", "0.12")]
    entered = (
        Row(
            f"{fusion}, {100 * float(ratio):g} %",
            ("--fusion", fusion, "--prototype-ratio", ratio),
        )
        for fusion, ratio in ways
    )
    return (Row("none (default)", ()), *entered)


TABLES = {
    "prn-modules": Table("PRN, table 4: modules", "prn", prn_modules()),
    "prn-kinds": Table("PRN, table 5: kinds of anomalies", "prn", prn_kinds()),
    "prn-prototypes": Table("PRN, table 6: prototypes per good picture", "prn", prn_prototypes()),
    "prn-seen": Table("PRN, table 7: defects that are learned from", "prn", prn_seen()),
    "mpfnet-noise": Table("MPFNet, table IV: scale of noise", "mpfnet", mpfnet_noise()),
    "mpfnet-prototypes": Table(
        "MPFNet, table VI: prototypes, and how they enter", "mpfnet", mpfnet_prototypes()
    ),
}


def main() -> None:
    """Fills one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--epochs", default="4", help="of each row's training (default: 4)")
    parser.add_argument("--input-size", default="128", metavar="PIXELS")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    weights = SHARED / "weights" / "resnet18_imagenet1k.safetensors"
    arguments.backbone = arguments.backbone or os.fspath(weights)
    arguments.without_holdout = False
    table = TABLES[arguments.table]
    rows: dict[str, dict[str, Any]] = {}
    sys.stdout.write(f"{heading(table, arguments)}\n")
    for row in table.rows:
        options = ["--scorer", table.scorer, "--epochs", arguments.epochs, "--precisions", "fp32"]
        options += ["--input-size", arguments.input_size, *row.options]
        with tempfile.TemporaryDirectory() as folder:
            rows[row.name] = run(arguments.category, Path(folder), arguments, options)
        sys.stdout.write(f"{line(row, rows[row.name])}\n")
        sys.stdout.flush()
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))


def heading(table: Table, arguments: argparse.Namespace) -> str:
    """Title and head of the Markdown table."""
    columns = ["", *HEADINGS, "latency, ms", *(f"paper: {name}" for name in HEADINGS)]
    return (
        f"### {table.source}\n\n{arguments.category} at {arguments.input_size} px, "
        f"{arguments.epochs} epochs a row.\n\n"
        f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    )


def line(row: Row, found: dict[str, Any]) -> str:
    """A row in Markdown."""
    own = [f"{found[name]:.3f}" for name in FIGURES] + [f"{found['latency_ms_p50']:.0f}"]
    paper = [f"{value / 100:.3f}" for value in row.paper] or ["-"] * len(FIGURES)
    return f"| {' | '.join([row.name, *own, *paper])} |"


if __name__ == "__main__":
    main()
