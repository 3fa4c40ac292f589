"""How many pictures go into one inference: the batch sizes that a runtime is made ready for."""

from __future__ import annotations


def sizes(largest: int) -> tuple[int, ...]:
    """Powers of two below the largest batch, and that one: few to prepare, none far from full."""
    return (*(1 << power for power in range((largest - 1).bit_length())), largest)


def split(count: int, prepared: tuple[int, ...]) -> list[int]:
    """So many pictures in batches of prepared sizes, the largest first, none of them padded."""
    parts: list[int] = []
    for size in sorted(prepared, reverse=True):
        parts += [size] * (count // size)
        count %= size
    return parts
