"""The ladder of claims about the GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inspectd.bench.rung import Facts, rung_of

ON_CPU = Facts(lint=(), agrees_with_torch=True, engine_agrees=None)
ON_GPU = replace(
    ON_CPU, engine_agrees=True, engine_is_captured=True, torch_on_gpu=("eager", "CUDA graph")
)


def test_the_first_rung() -> None:
    """Lint and torch's scores; what the third lacks is said."""
    rung = rung_of(ON_CPU)
    assert rung.number == 1
    assert "a TensorRT engine gives the reference's scores" in rung.missing
    assert rung.title.startswith("rung 1 of 4")


@pytest.mark.parametrize(
    "facts",
    [
        replace(ON_GPU, lint=None),
        replace(ON_GPU, lint=("opset 18, at most 17",)),
        replace(ON_GPU, agrees_with_torch=None),
        replace(ON_GPU, agrees_with_torch=False),
    ],
)
def test_no_rung_without_the_first(facts: Facts) -> None:
    """A GPU alone earns nothing; what wasn't tried doesn't count as done."""
    assert rung_of(facts).number == 0
    assert len(rung_of(facts).missing) == 1


def test_the_third_rung() -> None:
    """All of it, in one run."""
    assert rung_of(ON_GPU).number == 3
    assert rung_of(ON_GPU).missing == ()


@pytest.mark.parametrize(
    "facts",
    [
        replace(ON_GPU, engine_agrees=False),
        replace(ON_GPU, engine_is_captured=False),
        replace(ON_GPU, torch_on_gpu=("eager",)),
        replace(ON_GPU, torch_on_gpu=("CUDA graph",)),
    ],
)
def test_the_third_rung_needs_everything(facts: Facts) -> None:
    """One thing missing is the first rung, and that thing is named."""
    rung = rung_of(facts)
    assert rung.number == 1
    assert len(rung.missing) == 1
