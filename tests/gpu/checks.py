"""What must hold on a real GPU; each check is a function that raises or gives its figures.

It needs NumPy, TensorRT, pycuda and, better, cuda.bindings, and nothing else: so no pytest, no
pydantic, no ONNX Runtime. The reference's results lie beside the model, both made by
``make_model.py``. Two ways to run it:

    DEST/trtpython tests/gpu/run.py       where ../shared/gpu's pack is all there is
    python -m pytest -m gpu tests/gpu     where the project is installed
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np

from inspectd.core.errors import EngineError, InferenceError
from inspectd.core.records import AnomalyMap
from inspectd.runtimes.nvidia import driver as drivers
from inspectd.runtimes.nvidia import vendor as vendors
from inspectd.runtimes.nvidia.builder import build_engine
from inspectd.runtimes.nvidia.engines import EngineCache, SideCar, key_of
from inspectd.runtimes.tensorrt import ROUNDING, TensorRtRuntime, model_file, model_hash

HERE = Path(__file__).parent
MODEL, EXPECTED = HERE / "model.onnx", HERE / "expected.npz"
LOADS = 1000
PRECISIONS = ("fp32", "fp16", "int8")
INT8_BOUND = 2e-2
"""From ONNX Runtime's result of the same Q/DQ file: a value near the middle between two steps may
be rounded either way, which a graph of so few channels shows."""
MIB = 2**20
BATCH = 4
BATCH_LOADS = 20
LEAK_MIB = 32
"""The driver keeps some memory for itself; a leak in 1,000 loads is more."""


@dataclass
class Model:
    """What `inspectd.core.bundle.Graph` is, without pydantic."""

    path: Path
    size: tuple[int, int]
    names: Any
    product: str = ""
    revision: str = ""

    @property
    def precisions(self) -> dict[str, Path]:
        """The files beside it."""
        return {name: HERE / f"model.{name}.onnx" for name in ("fp16", "int8")}

    def file(self, precision: str) -> Path:
        """One of them."""
        return self.precisions[precision]


class Bench:
    """A model with its expected results, and an empty cache of engines."""

    def __init__(self, cache: Path) -> None:
        self.vendor = vendors.load()
        self.gpu = drivers.probe().devices[0]
        self.engines = EngineCache(cache)
        with np.load(EXPECTED) as expected:
            self.pictures = expected["pictures"]
            exact = expected["maps"], expected["scores"]
            coarse = expected["maps_int8"], expected["scores_int8"]
        self.expected = {"fp32": exact, "fp16": exact, "int8": coarse}
        names = SimpleNamespace(input="image", anomaly_map="anomaly_map", score="score")
        self.graph: Any = Model(MODEL, self.pictures.shape[1:3], names)

    def built(self, precision: str, batch: int = 1) -> SideCar:
        """The engine of a precision; built where there is none that takes such batches."""
        model = model_hash(self.graph, precision)
        key = key_of(model, self.vendor.version, self.gpu, precision)
        found = self.engines.find(key)
        if found is None or found.batch < batch:
            return self.build(precision, batch=batch)
        return found

    def build(
        self, precision: str, report: Callable[..., None] | None = None, batch: int = 1
    ) -> SideCar:
        """Builds an engine."""
        model = model_hash(self.graph, precision)
        key = key_of(model, self.vendor.version, self.gpu, precision)
        built = build_engine(
            self.vendor,
            0,
            model_file(self.graph, precision),
            precision,
            input_name="image",
            size=self.graph.size,
            workspace_mib=1024,
            timing_cache=self.engines.timing_cache(key),
            report=report or (lambda stage, done, total: None),
            batch=batch,
        )
        return self.engines.store(key, built, driver="", inspectd="")

    def runtime(self, precision: str = "fp32", batch: int = 1) -> TensorRtRuntime:
        """A runtime on the built engine, not yet entered."""
        self.built(precision, batch)
        return TensorRtRuntime(self.graph, precision, batch=batch)

    def free(self) -> int:
        """Bytes of the GPU's memory that nobody has."""
        with self.vendor.current(0):
            return int(self.vendor.cuda.mem_get_info()[0])

    def require(self, runtime: TensorRtRuntime, index: int) -> float:
        """Scores a picture and compares it; the difference."""
        return self.compare(runtime, index, runtime.infer(self.pictures[index]))

    def compare(self, runtime: TensorRtRuntime, index: int, anomaly: AnomalyMap) -> float:
        """By how much a result of a picture differs, which mustn't be too much."""
        precision = self.precision_of(runtime)
        maps, scores = self.expected[precision]
        bound = INT8_BOUND if precision == "int8" else max(1e-3, ROUNDING[precision])
        difference = abs(anomaly.score - float(scores[index]))
        assert difference <= bound, f"{runtime.name}: {difference} is more than {bound}"
        worst = float(np.abs(anomaly.values - maps[index]).max())
        assert worst <= 2 * bound, f"{runtime.name}: the map differs by {worst}"
        return difference

    @staticmethod
    def precision_of(runtime: TensorRtRuntime) -> str:
        """As it stands in the name."""
        return runtime.name.split()[1]


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench whose cache is removed afterwards.

    Raises:
        RuntimeUnavailableError: no driver, GPU or package.
    """
    before = os.environ.get("INSPECTD_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="inspectd-gpu-") as folder:
        os.environ["INSPECTD_CACHE_DIR"] = folder
        try:
            yield Bench(Path(folder))
        finally:
            os.environ.pop("INSPECTD_CACHE_DIR")
            if before is not None:
                os.environ["INSPECTD_CACHE_DIR"] = before


def check_build(bench: Bench) -> str:
    """Every precision builds, with progress, and the timing cache is kept."""
    told: list[tuple[str, int, int]] = []
    found = []
    for precision in PRECISIONS:
        side_car = bench.build(precision, lambda *step: told.append(step))
        assert told[-1][1] == told[-1][2], told
        assert bench.engines.timing_cache(side_car.key)
        found.append(f"{precision} {side_car.build_s:.1f} s, {side_car.size / MIB:.1f} MiB")
    again = bench.build("fp32")
    return f"{'; '.join(found)}; fp32 again with timing cache {again.build_s:.1f} s"


def check_parity(bench: Bench) -> str:
    """Every picture's score and map are the reference's, within the precision's bound."""
    found = []
    for precision in PRECISIONS:
        with bench.runtime(precision) as runtime:
            worst = max(bench.require(runtime, i) for i in range(len(bench.pictures)))
        found.append(f"{precision} {worst:.1e}")
    return f"largest difference of a score: {', '.join(found)}"


def check_capture_and_replay(bench: Bench) -> str:
    """One CUDA graph gives what the plain engine gives, picture after picture."""
    if bench.vendor.graphs is None:
        return "not checked: cuda.bindings isn't installed"
    with ExitStack() as stack:
        captured = stack.enter_context(bench.runtime())
        graphs, bench.vendor.graphs = bench.vendor.graphs, None
        try:
            plain = stack.enter_context(bench.runtime())
        finally:
            bench.vendor.graphs = graphs
        assert captured.is_captured
        assert not plain.is_captured
        for picture in bench.pictures:
            one, other = captured.infer(picture), plain.infer(picture)
            np.testing.assert_allclose(one.values, other.values, atol=1e-5)
        fast, slow = (_median_ms(one, bench.pictures[0]) for one in (captured, plain))
    return f"median of a step {fast:.3f} ms as a graph, {slow:.3f} ms without"


def check_batches(bench: Bench) -> str:
    """Every batch size gives each picture its own result, as one CUDA graph; memory comes back."""
    bench.built("fp32", BATCH)
    before, found = bench.free(), []
    for _ in range(BATCH_LOADS):
        with bench.runtime(batch=BATCH) as runtime:
            assert runtime.largest_batch == BATCH
            assert runtime.is_captured == (bench.vendor.graphs is not None)
            for count in (1, 4, 3, 2, 1, 4):
                places = [(count + at) % len(bench.pictures) for at in range(count)]
                results = runtime.infer_batch([bench.pictures[at] for at in places])
                for at, anomaly in zip(places, results, strict=True):
                    bench.compare(runtime, at, anomaly)
            found = [
                f"{count}: {_batch_ms(runtime, bench.pictures[:count]) / count:.3f}"
                for count in (1, 2, 4)
            ]
    lost = (before - bench.free()) / MIB
    assert lost < LEAK_MIB, f"{lost:.0f} MiB are gone"
    return f"ms per picture by batch size: {', '.join(found)}; {lost:.1f} MiB less free"


def check_a_batch_engine_loses_nothing_alone(bench: Bench) -> str:
    """One picture on an engine for batches, beside an engine for one; the figures decide."""
    found = []
    for batch in (1, BATCH):
        bench.build("fp32", batch=batch)
        with TensorRtRuntime(bench.graph, "fp32") as runtime:
            bench.require(runtime, 0)
            found.append(_median_ms(runtime, bench.pictures[0]))
    return f"median {found[0]:.3f} ms on an engine for one, {found[1]:.3f} ms on one for {BATCH}"


def check_lanes_share_a_batch_engine(bench: Bench) -> str:
    """Batches from several threads in turns, and single pictures between them."""
    with bench.runtime(batch=BATCH) as runtime:

        def work(lane: int) -> Callable[[], None]:
            def infer() -> None:
                for count in range(100):
                    places = [(lane + at) % len(bench.pictures) for at in range(1 + count % BATCH)]
                    results = runtime.infer_batch([bench.pictures[at] for at in places])
                    for at, anomaly in zip(places, results, strict=True):
                        bench.compare(runtime, at, anomaly)

            return infer

        _together(*(work(lane) for lane in range(4)))
    return "4 x 100 batches"


def check_threads_take_turns(bench: Bench) -> str:
    """One thread enters, another infers, a third leaves; memory is as before."""
    runtime = bench.runtime()
    _in_thread(runtime.__enter__)
    _in_thread(lambda: bench.require(runtime, 0))
    _in_thread(lambda: runtime.__exit__(None, None, None))
    try:
        runtime.infer(bench.pictures[0])
    except InferenceError:
        return ""
    raise AssertionError("it infers after it was left")


def check_two_threads_at_once(bench: Bench) -> str:
    """Two runtimes, each in its own thread, don't disturb each other."""
    with ExitStack() as stack:
        runtimes = [stack.enter_context(bench.runtime()) for _ in range(2)]

        def work(number: int) -> Callable[[], None]:
            def infer() -> None:
                for count in range(200):
                    bench.require(runtimes[number], (count + number) % len(bench.pictures))

            return infer

        _together(work(0), work(1))
    return "2 x 200 pictures"


def check_out_of_memory(bench: Bench) -> str:
    """A full GPU is an error with its remedy, and no loss: with memory again all works."""
    bench.built("fp32")
    cuda, hogged = bench.vendor.cuda, []
    with bench.vendor.current(0):
        size = bench.free()
        while size > MIB // 4:
            try:
                hogged.append(cuda.mem_alloc(size))
            except Exception:  # noqa: BLE001 - pycuda's errors share no base that can be named
                size //= 2
        try:
            said = _failure(lambda: bench.runtime().__enter__())
        finally:
            while hogged:
                hogged.pop().free()
    assert "memory" in said, said
    with bench.runtime() as runtime:
        bench.require(runtime, 0)
    return said[:120]


def check_teardown_leaks_nothing(bench: Bench) -> str:
    """After 1,000 loads the GPU's memory is as after the first ten."""
    bench.built("fp32")

    def load(count: int) -> None:
        for _ in range(count):
            with bench.runtime() as runtime:
                runtime.infer(bench.pictures[0])

    load(10)
    before, began = bench.free(), perf_counter()
    load(LOADS)
    lost = (before - bench.free()) / MIB
    assert lost < LEAK_MIB, f"{lost:.0f} MiB are gone"
    each = (perf_counter() - began) / LOADS * 1e3
    return f"{LOADS} loads, {each:.1f} ms each, {lost:.1f} MiB less free"


def check_changeover_under_load(bench: Bench) -> str:
    """While one thread inspects, another loads, proves and hands over, over and over."""
    line = [bench.runtime().__enter__()]
    done = threading.Event()
    waits: list[float] = []

    def inspect() -> None:
        count = 0
        while not done.is_set() or not waits:
            started = perf_counter()
            bench.require(line[0], count % len(bench.pictures))
            waits.append((perf_counter() - started) * 1e3)
            if len(line) > 1:  # a new one was handed over: the old one is closed between two parts
                line.pop(0).__exit__(None, None, None)
            count += 1

    def change() -> None:
        try:
            for _ in range(10):
                fresh = bench.runtime().__enter__()
                bench.require(fresh, 0)
                line.append(fresh)
                while len(line) > 1:
                    sleep(0.001)
        finally:
            done.set()

    _together(inspect, change)
    for left in line:
        left.__exit__(None, None, None)
    worst = max(waits)
    return (
        f"10 changeovers, {len(waits)} pictures, median {np.median(waits):.2f}, most {worst:.2f} ms"
    )


def check_idle_gap(bench: Bench) -> str:
    """How slow the first picture after a second's pause is, kept warm and not."""
    found = []
    with bench.runtime() as runtime:
        steady = _median_ms(runtime, bench.pictures[0])
        for is_warmed in (True, False):
            taken = []
            for _ in range(3):
                for _ in range(5):
                    sleep(0.2)
                    if is_warmed:
                        runtime.keep_warm()
                taken.append(_ms(runtime, bench.pictures[0]))
            found.append(float(np.median(taken)))
    return f"steady {steady:.3f} ms; after 1 s kept warm {found[0]:.3f}, not {found[1]:.3f} ms"


def check_a_foreign_engine_is_refused(bench: Bench) -> str:
    """What TensorRT can't read is an error with the command that builds it anew."""
    side_car = bench.build("fp32")
    path = bench.engines.folder / side_car.plan
    plan = path.read_bytes()
    try:
        path.write_bytes(plan[: len(plan) // 2])
        said = _failure(lambda: bench.runtime().__enter__())
    finally:
        path.write_bytes(plan)
    assert "damaged" in said, said
    assert "--rebuild" in said, said
    return ""


CHECKS = tuple(value for name, value in sorted(globals().items()) if name.startswith("check_"))


def _ms(runtime: TensorRtRuntime, picture: Any) -> float:
    started = perf_counter()
    runtime.infer(picture)
    return (perf_counter() - started) * 1e3


def _batch_ms(runtime: TensorRtRuntime, pictures: Any) -> float:
    """Median for a whole batch."""
    taken = []
    for _ in range(200):
        started = perf_counter()
        runtime.infer_batch(pictures)
        taken.append((perf_counter() - started) * 1e3)
    return float(np.median(taken))


def _median_ms(runtime: TensorRtRuntime, picture: Any) -> float:
    return float(np.median([_ms(runtime, picture) for _ in range(200)]))


def _failure(work: Callable[[], object]) -> str:
    try:
        work()
    except EngineError as error:
        return str(error)
    raise AssertionError("it did not fail")


def _in_thread(work: Callable[[], object]) -> None:
    _together(work)


def _together(*works: Callable[[], object]) -> None:
    """Each in a thread of its own; the first error is raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
