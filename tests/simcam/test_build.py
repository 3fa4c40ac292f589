"""Compiling the producer."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspectd.core.errors import CameraError
from inspectd.simcam import build


def test_without_a_compiler_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Install gcc or take the folder camera."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CameraError, match=r"apt-get install gcc.*folder camera"):
        build.producer_path(cache=tmp_path)


def test_what_is_compiled_is_found_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on the line may have no compiler, but a filled cache."""
    folder = tmp_path / "simcam" / build._fingerprint(build.FLAGS)
    folder.mkdir(parents=True)
    (folder / build.NAME).touch()
    monkeypatch.setenv("PATH", "")
    assert build.producer_path(cache=tmp_path) == folder / build.NAME


def test_other_flags_make_another_file() -> None:
    """A sanitized build never takes the plain one's place."""
    assert build._fingerprint(build.FLAGS) != build._fingerprint((*build.FLAGS, "-g"))


def test_what_the_compiler_says_is_in_the_error(tmp_path: Path, compiler: str) -> None:
    """And no half-made file stays behind."""
    with pytest.raises(CameraError, match="no-such-flag"):
        build.producer_path(extra_flags=["-fno-such-flag"], cache=tmp_path)
    assert not list(tmp_path.rglob("*.cti"))


def test_the_module_prints_the_path(cti: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the Makefile wants it."""
    build.main()
    assert capsys.readouterr().out == f"{cti}\n"
