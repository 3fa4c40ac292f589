"""How FINCH's time, recall and memory grow with the number of pictures.

Run by hand, never by the test suite. Patch features are taken of 50, 100 and 200 training pictures
of a category as ProtoAD takes them, and clustered. For each number one row is printed: the seconds
of the whole clustering and of its first search alone, wall clock and processor, the microseconds
per patch, the recall of first neighbours on a sample against all patches, and the process's peak of
memory up to there (with torch, the backbone and the patches). The last line gives the exponent with
which time grows: 1 is linear.

On a machine that others use, compare processor seconds: the clustering runs on one core.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import numpy.typing as npt

from calibration.backbones import Backbone, load_backbone
from calibration.dataset import PreparedImages, find_good
from calibration.features import sample_patches
from calibration.finch import PROBES, finch, first_neighbours, recall
from calibration.scorers.protoad import patch_features
from inspectd.core.errors import InspectdError
from inspectd.core.preprocess import Preprocessing

SHARED = Path(__file__).resolve().parents[3] / "shared"

EPILOG = """\
examples:
  nice -n 5 python tests/benchmarks/finch_scaling.py
  nice -n 5 python tests/benchmarks/finch_scaling.py --category metal_nut --pictures 50 100 \\
      --probes 2 4 8

Exit status: 0 done, 2 data, weights or arguments are wrong.
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """One measurement."""

    patches: int
    wall: float
    """Seconds of the whole clustering."""
    processor: float
    """Processor seconds of the whole clustering, over all threads."""


def evenly(items: Sequence[Path], count: int) -> list[Path]:
    """`count` of the items, evenly spread, first and last included."""
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def patches_of(
    paths: Sequence[Path], backbone: Backbone, args: argparse.Namespace
) -> npt.NDArray[np.float32]:
    """All patches of the pictures, as ProtoAD takes them."""
    shape = Preprocessing(
        resize=(args.resize, args.resize), crop=(args.crop, args.crop), source_size=None
    )
    return sample_patches(
        PreparedImages(paths, shape),
        backbone,
        patch_features,
        limit=sys.maxsize,
        seed=0,
        report=lambda done, total: None,
    )


def measure(patches: npt.NDArray[np.float32], args: argparse.Namespace) -> Timed:
    """Clusters the patches, prints the partitions and, for each number of probes, the recall."""
    wall, processor = perf_counter(), process_time()
    partitions = finch(patches, fewer_than=args.fewer_than)
    timed = Timed(len(patches), perf_counter() - wall, process_time() - processor)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sizes = " / ".join(f"{len(partition.means):,}" for partition in partitions)
    print(
        f"{timed.patches:>9,} patches: FINCH {timed.wall:5.1f} s wall, {timed.processor:5.1f} s "
        f"processor, {1e6 * timed.wall / timed.patches:4.1f} us per patch, "
        f"peak {peak:.2f} GiB, clusters {sizes}",
        flush=True,
    )
    for probes in args.probes:
        wall, processor = perf_counter(), process_time()
        neighbours = first_neighbours(patches, probes=probes)
        wall, processor = perf_counter() - wall, process_time() - processor
        found = recall(patches, neighbours, sample=args.sample) if args.sample else math.nan
        print(
            f"{'':>18} first search with {probes} probes {wall:5.1f} s wall, {processor:5.1f} s "
            f"processor, recall {found:.3f}",
            flush=True,
        )
    return timed


def growth(timed: Sequence[Timed]) -> str:
    """The exponents of time by patches between the smallest and the largest set."""
    first, last = timed[0], timed[-1]
    patches = math.log(last.patches / first.patches)
    wall = math.log(last.wall / first.wall) / patches
    processor = math.log(last.processor / first.processor) / patches
    return f"time grows as patches^{wall:.2f} (wall), patches^{processor:.2f} (processor)"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments; each has a default that suits the shared folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    weights = SHARED / "weights" / "resnet18_imagenet1k.safetensors"
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder of categories")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--weights", default=str(weights), help="safetensors file or backbone name")
    parser.add_argument("--pictures", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--fewer-than", type=int, default=10_000)
    parser.add_argument("--probes", type=int, nargs="+", default=[PROBES])
    parser.add_argument("--sample", type=int, default=2_000, help="queries of recall; 0: none")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    args = parse(argv)
    try:
        good = find_good(args.data / args.category)
        backbone = load_backbone(args.weights)
        counts = sorted({min(count, len(good)) for count in args.pictures})
        timed = []
        for count in counts:  # ascending, so that the peak of memory is this one's
            patches = patches_of(evenly(good, count), backbone, args)
            timed.append(measure(patches, args))
            del patches
    except InspectdError as error:
        print(f"finch_scaling: {error}", file=sys.stderr)
        return 2
    if len(timed) > 1:
        print(growth(timed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
