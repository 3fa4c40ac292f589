"""The project's scorer against anomalib 2.7.0's PatchCore: same pictures, same backbone weights.

Run by hand, never by the test suite. Two workers are started, ours (``own_worker.py``, under this
interpreter) and the peer (``peer_patchcore.py``, under a virtual environment that holds anomalib),
and both are fitted, one after the other, on the same training pictures of a category. Each test
picture is then put to ours and to the peer in turn (A, B, A, B, ...), so that a busy spell of the
machine strikes both. A worker times itself, from the decoded picture to the score and the map;
file decoding, pipes and JSON are outside.

Both workers are started as ``PYTHON WORKER --weights FILE --threads N`` and speak one JSON object
a line; the protocol is written down in ``peer_patchcore.py``.

Only the standard library and numpy are needed here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
SHARED = REPO.parent / "shared"

CATEGORIES = ("bottle", "metal_nut", "magnetic_tile")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
PEER_VERSION = "2.7.0"
# anomalib leaves torch open; it is pinned as well, since it decides the peer's speed.
PEER_REQUIREMENTS = (f"anomalib=={PEER_VERSION}", "torch==2.15.0", "torchvision==0.29.2")
SIDES = ("own", "peer")

EPILOG = """\
examples:
  # everything: 100 training pictures and all test pictures of three categories
  nice -n 10 python tests/benchmarks/against_patchcore.py --json result.json

  # a quick look with an environment that is already there
  python tests/benchmarks/against_patchcore.py --peer-venv ~/venvs/anomalib \\
      --categories bottle --train 20 --test 20

  # the peer alone
  python tests/benchmarks/against_patchcore.py --only peer

The peer's coreset on 100 pictures takes minutes per category on two CPU cores.
Installing the peer downloads some gigabytes (torch with its CUDA libraries) once.
Exit status: 0 done, 1 a worker failed, 2 data, weights, environment or arguments are wrong.
"""


class SetupError(Exception):
    """Something the comparison needs is missing or wrong."""


class WorkerError(Exception):
    """A worker refused a command, answered nonsense or died."""


def auroc(scores: Sequence[float], defective: Sequence[bool]) -> float:
    """The exact area under the ROC curve: the share of (defective, good) pairs put in the right
    order, a tie counting half."""
    bad = np.asarray(defective, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    good = np.sort(values[~bad])
    if not bad.any() or good.size == 0:
        raise ValueError("AUROC needs good and defective pictures")
    below = np.searchsorted(good, values[bad], side="left")
    not_above = np.searchsorted(good, values[bad], side="right")
    # Whole numbers up to the division: twice the pairs won, ties counted once.
    return int((below + not_above).sum()) / (2 * int(bad.sum()) * good.size)


def pictures(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in name order."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)


def evenly(items: Sequence[Path], count: int) -> list[Path]:
    """``count`` of the items, evenly spread, first and last included; all where there are fewer."""
    if count >= len(items):
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def load_category(
    data: Path, category: str, train: int, test: int | None
) -> tuple[list[Path], list[tuple[Path, bool]]]:
    """The training pictures and the (test picture, defective) pairs of one category."""
    root = data / category
    if not root.is_dir():
        found = sorted(p.name for p in data.iterdir() if (p / "train" / "good").is_dir())
        raise SetupError(f"no category {category!r} in {data}; found: {', '.join(found) or 'none'}")
    training = evenly(pictures(root / "train" / "good"), train)
    if not training:
        raise SetupError(f"no pictures in {root / 'train' / 'good'}")
    good = pictures(root / "test" / "good")
    folders = sorted(p for p in (root / "test").glob("*") if p.is_dir() and p.name != "good")
    bad = [p for folder in folders for p in pictures(folder)]
    if not good or not bad:
        raise SetupError(f"{root / 'test'} needs good/ and at least one defect folder, with files")
    total = len(good) + len(bad)
    if test is not None and test < total:  # keep the proportion of good and defective
        keep = min(max(round(test * len(good) / total), 1), test - 1)
        good, bad = evenly(good, keep), evenly(bad, test - keep)
    return training, sorted([(p, False) for p in good] + [(p, True) for p in bad])


class Worker:
    """A worker process; its standard error is kept for when it fails."""

    def __init__(self, side: str, command: Sequence[str], env: dict[str, str]) -> None:
        self.side = side
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=REPO,
            env=env,
            text=True,
            encoding="utf-8",
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            raise self._error(f"ended with status {status} on {request['cmd']!r}")
        try:
            reply = json.loads(line)
        except ValueError:
            raise self._error(f"answered {request['cmd']!r} with {line.strip()[:200]!r}") from None
        if not isinstance(reply, dict) or reply.get("ok") is False or "error" in reply:
            why = reply.get("error", "no reason given") if isinstance(reply, dict) else reply
            raise self._error(f"refused {request['cmd']!r}: {why}")
        return reply

    def fit(self, images: Sequence[Path]) -> dict[str, Any]:
        reply = self.ask({"cmd": "fit", "images": [str(p) for p in images]})
        self._finite(reply, "seconds")
        return reply

    def score(self, image: Path) -> tuple[float, float]:
        reply = self.ask({"cmd": "score", "image": str(image)})
        return self._finite(reply, "score"), self._finite(reply, "ms")

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write('{"cmd": "quit"}\n')
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _finite(self, reply: dict[str, Any], key: str) -> float:
        value = reply.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._error(f"reply without a number {key!r}: {reply}")
        if not math.isfinite(value):
            raise self._error(f"{key!r} is {value}")
        return float(value)

    def _error(self, what: str) -> WorkerError:
        self._log.seek(0)
        # A progress bar rewrites its line with carriage returns: its last state is enough.
        text = self._log.read().decode("utf-8", "replace")
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
        tail = "\n".join(f"    {line}" for line in lines[-12:] if line.strip())
        return WorkerError(
            f"the {self.side} worker {what}" + (f"; it said:\n{tail}" if tail else "")
        )


def default_peer_venv() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "inspectd-benchmarks" / f"anomalib-{PEER_VERSION}"


def peer_python(folder: Path) -> Path:
    """The interpreter of the peer's environment; the environment is made where it is absent."""
    python = folder / "bin" / "python"
    probe = "import importlib.metadata as m; print(m.version('anomalib'))"
    if not python.exists():
        if folder.exists() and any(folder.iterdir()):
            raise SetupError(f"{folder} is no virtual environment, and not empty")
        print(f"peer: making a virtual environment in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", *PEER_REQUIREMENTS]
        print(f"peer: {' '.join(install)} (some gigabytes, once)", file=sys.stderr)
        if subprocess.run(install, stdout=sys.stderr, check=False).returncode:
            raise SetupError(f"pip could not install the peer; delete {folder} to try again")
    found = subprocess.run(
        [str(python), "-c", probe], capture_output=True, text=True, check=False
    ).stdout.strip()
    if found != PEER_VERSION:
        raise SetupError(
            f"{folder} holds anomalib {found or '(none)'}, {PEER_VERSION} is wanted; name a folder "
            f"that does not exist yet, or one with {' '.join(PEER_REQUIREMENTS)} in it"
        )
    return python


@contextlib.contextmanager
def started(args: argparse.Namespace) -> Iterator[dict[str, Worker]]:
    """The workers that were asked for, by side; ended on the way out."""
    sides = SIDES if args.only is None else (args.only,)
    commands: dict[str, list[str]] = {}
    if "own" in sides:
        if not args.own_worker.is_file():
            raise SetupError(
                f"no worker of our own at {args.own_worker} (--only peer does without)"
            )
        commands["own"] = [sys.executable, str(args.own_worker)]
    if "peer" in sides:
        commands["peer"] = [str(peer_python(args.peer_venv)), str(HERE / "peer_patchcore.py")]
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    rest = ["--weights", str(args.weights), "--threads", str(args.threads)]
    with contextlib.ExitStack() as stack:
        workers = {}
        for side, command in commands.items():
            # Ours imports the project from this checkout; the peer must not see it.
            extra = {"PYTHONPATH": str(REPO)} if side == "own" else {}
            workers[side] = Worker(side, command + rest, env | extra)
            stack.callback(workers[side].close)
        yield workers


def compare(workers: dict[str, Worker], category: str, args: argparse.Namespace) -> dict[str, Any]:
    """Fit both, put every test picture to both in turn, and sum up."""
    training, test = load_category(args.data, category, args.train, args.test)
    load_before = os.getloadavg()
    fits = {}
    for side, worker in workers.items():
        note(f"{category}: fitting {side} on {len(training)} pictures")
        fits[side] = worker.fit(training)
    pause = args.pause / 1e3
    for i in range(args.warmup):
        for worker in workers.values():
            time.sleep(pause)
            worker.score(test[i % len(test)][0])
    scores: dict[str, list[float]] = {side: [] for side in workers}
    times: dict[str, list[float]] = {side: [] for side in workers}
    said = time.monotonic()
    for at, (path, _) in enumerate(test):
        for side, worker in workers.items():
            # Threads of the one asked before may still spin for a moment: let them fall asleep.
            time.sleep(pause)
            score, ms = worker.score(path)
            scores[side].append(score)
            times[side].append(ms)
        if time.monotonic() - said > 10:
            note(f"{category}: {at + 1} of {len(test)} test pictures")
            said = time.monotonic()
    defective = [bad for _, bad in test]
    result: dict[str, Any] = {
        "train": len(training),
        "test_good": defective.count(False),
        "test_defective": defective.count(True),
        "load_average": [load_before, os.getloadavg()],
    }
    for side in workers:
        result[side] = {
            "auroc": auroc(scores[side], defective),
            "ms_median": float(np.median(times[side])),
            "ms_p10": float(np.percentile(times[side], 10)),
            "ms_p90": float(np.percentile(times[side], 90)),
            "fit": fits[side],
        }
    result["pictures"] = [
        {"path": p.relative_to(args.data).as_posix(), "defective": bad}
        | {f"{side}_score": scores[side][i] for side in workers}
        | {f"{side}_ms": times[side][i] for side in workers}
        for i, (p, bad) in enumerate(test)
    ]
    add_ratio(result)
    if all(side in workers for side in SIDES):
        result["auroc_difference_95"] = auroc_difference(scores["own"], scores["peer"], defective)
    return result


def add_ratio(result: dict[str, Any]) -> None:
    if all(side in result for side in SIDES):
        result["peer_over_own_ms"] = result["peer"]["ms_median"] / result["own"]["ms_median"]


def auroc_difference(
    own: Sequence[float], peer: Sequence[float], defective: Sequence[bool], rounds: int = 2_000
) -> tuple[float, float]:
    """95 % interval of ours minus the peer's AUROC: a paired bootstrap over the test pictures, good
    and defective ones drawn apart."""
    rng = np.random.default_rng(0)
    bad = np.flatnonzero(defective)
    good = np.flatnonzero(~np.asarray(defective, dtype=bool))
    labels = [False] * len(good) + [True] * len(bad)
    differences = []
    for _ in range(rounds):
        drawn = np.concatenate([rng.choice(good, len(good)), rng.choice(bad, len(bad))])
        ours, theirs = np.asarray(own)[drawn], np.asarray(peer)[drawn]
        differences.append(auroc(ours.tolist(), labels) - auroc(theirs.tolist(), labels))
    low, high = np.percentile(differences, (2.5, 97.5))
    return float(low), float(high)


def overall(results: dict[str, dict[str, Any]], sides: Sequence[str]) -> dict[str, Any]:
    """Mean of the categories' AUROC; median of all pictures' times."""
    total: dict[str, Any] = {}
    for side in sides:
        times = [p[f"{side}_ms"] for r in results.values() for p in r["pictures"]]
        total[side] = {
            "auroc": float(np.mean([r[side]["auroc"] for r in results.values()])),
            "ms_median": float(np.median(times)),
        }
    add_ratio(total)
    return total


def table(results: dict[str, dict[str, Any]], total: dict[str, Any], sides: Sequence[str]) -> str:
    """The results as text, one line a category."""
    head = ["category", "train", "good", "defect"]
    for what in ("AUROC", "ms", "fit s", "bank"):
        head += [f"{what} {side}" for side in sides]
    both = len(sides) == 2
    rows = [head + (["ms peer/own", "AUROC own-peer, 95 %"] if both else [])]
    for name, r in results.items():
        row = [name, str(r["train"]), str(r["test_good"]), str(r["test_defective"])]
        row += [f"{r[s]['auroc']:.4f}" for s in sides]
        row += [f"{r[s]['ms_median']:.1f}" for s in sides]
        row += [f"{r[s]['fit']['seconds']:.1f}" for s in sides]
        row += [str(r[s]["fit"].get("bank", "-")) for s in sides]
        if both:
            low, high = r["auroc_difference_95"]
            row += [f"{r['peer_over_own_ms']:.2f}", f"{low:+.4f} to {high:+.4f}"]
        rows.append(row)
    row = ["overall", "", "", ""]
    row += [f"{total[s]['auroc']:.4f}" for s in sides]
    row += [f"{total[s]['ms_median']:.1f}" for s in sides]
    row += [""] * (2 * len(sides))
    rows.append(row + ([f"{total['peer_over_own_ms']:.2f}", ""] if both else []))
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    name = platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return {"system": platform.platform(), "cpu": name, "cpus": os.cpu_count()}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def at_least(low: int) -> Any:
    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is below {low}")
        return value

    return number


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"Our scorer against anomalib {PEER_VERSION}'s PatchCore (resnet18, layer2 and "
        "layer3): image AUROC and milliseconds a picture, the two asked in turn.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--categories",
        default=",".join(CATEGORIES),
        metavar="A,B",
        help="default %(default)s",
    )
    add(
        "--train",
        type=at_least(1),
        default=100,
        metavar="N",
        help="training pictures, evenly picked in name order (default %(default)s)",
    )
    add(
        "--test",
        type=at_least(2),
        metavar="N",
        help="at most N test pictures a category, good and defective in proportion (default: all)",
    )
    add(
        "--data",
        type=Path,
        default=SHARED / "data",
        metavar="DIR",
        help="categories in MVTec AD's layout (default %(default)s)",
    )
    add(
        "--weights",
        type=Path,
        default=SHARED / "weights" / "resnet18_imagenet1k.safetensors",
        metavar="FILE",
        help="resnet18 with torchvision's key names, for both (default %(default)s)",
    )
    add(
        "--peer-venv",
        type=Path,
        default=default_peer_venv(),
        metavar="DIR",
        help=f"virtual environment with anomalib {PEER_VERSION}: used as it is where it exists; "
        f"otherwise made there, with pip install {' '.join(PEER_REQUIREMENTS)} "
        "(default %(default)s)",
    )
    add(
        "--own-worker",
        type=Path,
        default=HERE / "own_worker.py",
        metavar="FILE",
        help="our side (default %(default)s)",
    )
    add("--only", choices=SIDES, help="run one side alone")
    add("--threads", type=at_least(1), default=2, metavar="N", help="of each side (default 2)")
    add(
        "--warmup",
        type=at_least(0),
        default=5,
        metavar="N",
        help="pictures scored and forgotten before a category (default %(default)s)",
    )
    add(
        "--pause",
        type=at_least(0),
        default=20,
        metavar="MS",
        help="rest before each picture, so that the other's threads sleep (default %(default)s)",
    )
    add("--json", type=Path, metavar="FILE", help="all of it, single pictures included, as JSON")
    args = parser.parse_args(argv)
    args.categories = [c.strip() for c in args.categories.split(",") if c.strip()]
    if not args.categories:
        parser.error("--categories names none")
    # The workers run elsewhere: what is relative is relative to where this was started.
    for name in ("data", "weights", "peer_venv", "own_worker"):
        setattr(args, name, Path.cwd() / getattr(args, name).expanduser())
    return args


def check(args: argparse.Namespace) -> None:
    """Find what is missing before minutes are spent."""
    if not args.data.is_dir():
        raise SetupError(f"no data folder at {args.data} (--data DIR)")
    if not args.weights.is_file():
        raise SetupError(f"no weights file at {args.weights} (--weights FILE)")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise SetupError(f"no folder for {args.json}")
    for category in args.categories:
        load_category(args.data, category, args.train, args.test)


def run(args: argparse.Namespace) -> None:
    check(args)
    results: dict[str, dict[str, Any]] = {}
    total: dict[str, Any] = {}
    with started(args) as workers:
        sides = list(workers)
        for category in args.categories:
            results[category] = compare(workers, category, args)
            total = overall(results, sides)
            if args.json is not None:  # after each category: a later failure loses nothing
                report = {
                    "machine": machine(),
                    "threads": args.threads,
                    "warmup": args.warmup,
                    "pause_ms": args.pause,
                    "weights": args.weights.name,
                    "overall": total,
                    "categories": results,
                }
                args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for side in sides:
        about = results[args.categories[0]][side]["fit"].get("about")
        if about is not None:
            print(f"{side}: {about if isinstance(about, str) else json.dumps(about)}")
    print(table(results, total, sides))


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    try:
        run(args)
    except SetupError as error:
        note(f"against_patchcore: {error}")
        return 2
    except WorkerError as error:
        note(f"against_patchcore: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
