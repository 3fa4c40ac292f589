"""How well a claim about the GPU is earned by what a run has done: the ladder.

1. On a CPU. ONNX Runtime and torch compute the same scores from the exported graph, and the graph
   holds nothing that TensorRT's oldest supported version would refuse (`calibration.lint`). What
   the runtime for the GPU does is tried on a fake of the vendor's packages (`tests/runtimes`).
2. On a CPU, with NVIDIA's parser. TensorRT-RTX reads the graph and builds an engine for another
   machine's GPU. No bench does that; `tests/gpu` says where it was done, and that is all it says.
3. On an NVIDIA GPU. An engine was loaded and gave the reference's scores within its precision's
   bounds, its pictures were replayed as one CUDA graph, and torch, eager and as a CUDA graph, was
   timed beside it on that card in that run.
4. On nobody's machine. Whatever no one has run (another TensorRT, a Jetson, another card) is
   unverified, and the README's table of verified configurations calls it so.
"""

from __future__ import annotations

from dataclasses import dataclass

WORDS = {
    0: "nothing is shown about a GPU",
    1: "on the CPU, the graph is fit for a GPU",
    3: "on an NVIDIA GPU",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What happened in a run; None where it wasn't tried."""

    lint: tuple[str, ...] | None
    """What `calibration.lint` finds wrong."""
    agrees_with_torch: bool | None
    """Whether torch on the CPU gives ONNX Runtime's scores."""
    engine_agrees: bool | None
    """Whether an engine of TensorRT gives them, in its precision's bounds."""
    engine_is_captured: bool = False
    """Whether its pictures ran as one CUDA graph."""
    torch_on_gpu: tuple[str, ...] = ()
    """Which of `eager` and `CUDA graph` ran on the card."""


@dataclass(frozen=True, slots=True)
class Rung:
    """The highest one that was reached."""

    number: int
    """0, 1 or 3: the second is out of a bench's reach."""
    reached: tuple[str, ...]
    missing: tuple[str, ...]
    """What the next one lacks."""

    @property
    def title(self) -> str:
        """One line."""
        return f"rung {self.number} of 4 of the GPU ladder: {WORDS[self.number]}"


def rung_of(facts: Facts) -> Rung:
    """The third needs the first as well."""
    first, second = _on_the_cpu(facts), _on_the_gpu(facts)
    lacking_first = tuple(sentence for sentence, holds in first if not holds)
    lacking_third = tuple(sentence for sentence, holds in second if not holds)
    reached = tuple(sentence for sentence, holds in (*first, *second) if holds)
    if lacking_first:
        return Rung(0, reached, lacking_first)
    return Rung(1 if lacking_third else 3, reached, lacking_third)


def _on_the_cpu(facts: Facts) -> tuple[tuple[str, bool], ...]:
    return (
        ("the graph passes the ONNX lint", facts.lint == ()),
        ("ONNX Runtime gives torch's scores", facts.agrees_with_torch is True),
    )


def _on_the_gpu(facts: Facts) -> tuple[tuple[str, bool], ...]:
    return (
        ("a TensorRT engine gives the reference's scores", facts.engine_agrees is True),
        ("its pictures run as one CUDA graph", facts.engine_is_captured),
        ("torch eager ran on the same card", "eager" in facts.torch_on_gpu),
        ("torch with a CUDA graph ran on the same card", "CUDA graph" in facts.torch_on_gpu),
    )
