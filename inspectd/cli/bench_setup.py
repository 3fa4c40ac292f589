"""What ``inspectd bench`` measures, who takes part, and what only the offline half can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from inspectd.cli.options import open_store
from inspectd.cli.output import needs_calibration, note
from inspectd.core.errors import BundleError, ConfigError, RuntimeUnavailableError

if TYPE_CHECKING:
    from inspectd.bench.contenders import Contender
    from inspectd.bench.course import Course, Probe
    from inspectd.bench.subject import Subject
    from inspectd.core.bundle import Graph

TORCH = ("torch-cpu", "torch-cuda-fp32", "torch-cuda-fp16", "torch-graph-fp16")
"""What `calibration.eager` opens; a test compares them."""
EAGER = "calibration.eager:open_eager"
PUBLISHED = "-published"
"""After a name: torch on the paper's plain form, every channel and all prototypes."""


def complete_contender(incomplete: str) -> list[str]:
    """Names of those who can take part."""
    from inspectd.runtimes import PACKAGES, VARIANTS

    return [name for name in (*PACKAGES, *VARIANTS, *TORCH) if name.startswith(incomplete)]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which model was asked for, one way or another."""

    product: str | None
    revision: str | None
    model: Path | None
    synthetic: str | None
    state_dir: Path | None

    def require_one(self) -> None:
        """At most one of the three ways.

        Raises:
            ConfigError: there are more.
        """
        given = [one for one in (self.product, self.model, self.synthetic) if one is not None]
        if len(given) > 1:
            raise ConfigError("give one of --product, --model and --synthetic, not several")

    def subject(self) -> Subject:
        """A product or a file.

        Raises:
            ConfigError: nothing was said, and there isn't just one product.
        """
        from inspectd.bench.subject import of_bundle, of_graph, read_graph

        if self.model is not None:
            return of_graph(read_graph(self.model), self.model.name)
        store = open_store(self.state_dir)
        return of_bundle(store.open(self.product or self._only(), self.revision))

    def _only(self) -> str:
        store = open_store(self.state_dir)
        products = store.products()
        if len(products) == 1:
            return products[0]
        known = ", ".join(products) or "none yet"
        raise ConfigError(
            f"which model? give --product (below {store.root}: {known}), --model FILE, or "
            "--synthetic resnet18"
        )


def synthetic_subject(
    folder: Path, network: str, side: int, prototypes: int, head: str
) -> tuple[Subject, Graph | None]:
    """A network of random weights in all precisions, and the paper's form where this isn't it."""
    from inspectd.bench.subject import of_graph

    with needs_calibration():
        from calibration.synthetic import in_fewer_bits, write_network
    size = (side, side)
    title = f"{network}, random weights, {side} x {side}, {prototypes} prototypes, head {head}"
    note(f"writing {title}")
    graph = in_fewer_bits(write_network(folder, network, size, prototypes, head))
    published = None
    if head != "published":
        published = write_network(folder, network, size, prototypes, "published")
        note(f"beside it, as torch...{PUBLISHED}: the paper's plain form{_but(head)}")
    return of_graph(graph, title), published


def _but(head: str) -> str:
    return ", another function: scores aren't compared" if head == "projected" else ""


def contenders_for(
    graph: Graph, published: Graph | None, head: str, names: Sequence[str]
) -> list[Contender]:
    """All who may take part, or those named; torch is a name here, not an import.

    Args:
        graph: the model.
        published: the paper's form of it, where there is one.
        head: the model's, where it is synthetic; `projected` is another function than the paper's.
        names: of those who are wanted; empty for all.

    Raises:
        ConfigError: there is none of a name.
    """
    from inspectd.bench.contenders import Contender, chosen, own_contenders

    others = [Contender(name, graph, EAGER, name, name != TORCH[0]) for name in TORCH]
    if published is not None:
        others += [
            Contender(
                name + PUBLISHED, published, EAGER, name, name != TORCH[0], head != "projected"
            )
            for name in ("torch-cpu", "torch-cuda-fp16")
        ]
    return chosen([*own_contenders(graph), *others], names)


def without_gpu(course: Course, contenders: list[Contender]) -> list[Contender]:
    """Where there is no GPU, notes so for those who need one, without starting them."""
    from inspectd.runtimes.nvidia import driver as drivers

    try:
        drivers.probe()
    except RuntimeUnavailableError as error:
        course.absent |= {one.name: str(error) for one in contenders if one.on_gpu}
        return [one for one in contenders if not one.on_gpu]
    return contenders


@dataclass(frozen=True, slots=True)
class Offline:
    """What needs onnx and torch; empty where they aren't installed."""

    flops: dict[str, int] = field(default_factory=dict)
    """Of one picture, by the model's path."""
    lint: tuple[str, ...] | None = None
    probe_for: Callable[[str], Probe | None] = lambda label: None
    """The matrix products for a runtime, by its name."""


def offline_for(folder: Path, contenders: Sequence[Contender]) -> Offline:
    """Work and lint of the models, and probes that are written to the folder when needed."""
    try:
        import onnx

        from calibration.flops import flops
        from calibration.lint import lint
        from calibration.synthetic import CPU_PROBE, GPU_PROBE, in_fewer_bits, write_probe
    except ImportError as error:
        note(f"without compute floor and lint: pip install 'inspectd[calibration]' ({error})")
        return Offline()
    from inspectd.bench.contenders import device_of, precision_of
    from inspectd.bench.course import Probe

    written: dict[tuple[bool, bool], Probe] = {}

    def probe_for(label: str) -> Probe:
        kind = on_cpu, in_int8 = device_of(label) == "CPU", precision_of(label) == "int8"
        if kind not in written:
            graph = write_probe(folder, CPU_PROBE if on_cpu else GPU_PROBE)
            quantised = in_fewer_bits(graph) if on_cpu and in_int8 else graph
            written[kind] = Probe(quantised, flops(graph))
        return written[kind]

    counted: dict[str, int] = {}
    for graph in {str(one.graph.path): one.graph for one in contenders}.values():
        try:
            counted[str(graph.path)] = flops(graph)
        except BundleError as error:
            note(f"without compute floor: {error}", "yellow")
    found = tuple(lint(onnx.load(contenders[0].graph.path))) if contenders else None
    return Offline(counted, found, probe_for)
