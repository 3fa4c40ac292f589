"""The file that an interrupted training goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from calibration.checkpoints import (
    FILE,
    Checkpoint,
    forget_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from inspectd.core.errors import ConfigError


def _written(folder: Path) -> Checkpoint:
    checkpoint = Checkpoint("abc", {"step": 3, "spent_s": 0.1}, {"model/w": torch.arange(3.0)})
    write_checkpoint(folder, checkpoint)
    return checkpoint


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Numbers exactly, tensors to the bit, and no other file is left."""
    written = _written(tmp_path / "new")
    found = read_checkpoint(tmp_path / "new", "abc")
    assert found.progress == written.progress
    assert torch.equal(found.tensors["model/w"], written.tensors["model/w"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Cut short or of another kind: how to begin anew is said."""
    _written(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-4] if content is None else content)
    with pytest.raises(ConfigError, match=r"damaged .* leave out --resume"):
        read_checkpoint(tmp_path, "abc")


def test_a_forgotten_checkpoint_leaves_no_folder(tmp_path: Path) -> None:
    """Unless something else is in it; forgetting what isn't there is no error."""
    _written(tmp_path / "one")
    forget_checkpoint(tmp_path / "one")
    forget_checkpoint(tmp_path / "one")
    assert not (tmp_path / "one").exists()
    _written(tmp_path / "two")
    (tmp_path / "two" / "mine").touch()
    forget_checkpoint(tmp_path / "two")
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["mine"]
