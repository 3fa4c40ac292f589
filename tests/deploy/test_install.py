"""``deploy/install.sh`` below a root of its own: what it puts where, and takes away again."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import inspectd

Install = Callable[..., subprocess.CompletedProcess[str]]
STATION = "etc/inspectd/inspectd.toml"
UNIT = "usr/local/lib/systemd/system/inspectd@.service"
CURRENT = "opt/inspectd/current"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the installed files go."""
    return tmp_path / "root"


@pytest.fixture
def install(tree: Path, root: Path) -> Install:
    """Runs the script; with the tests' own environment unless something else is said."""

    def run(*options: object, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"--venv", "--python", "--remove", "--help"} & {str(option) for option in options}
        venv = () if own or "--package" in options else ("--venv", sys.prefix)
        return subprocess.run(
            ["sh", tree / "deploy" / "install.sh", "--root", root, *venv, *map(str, options)],
            env={**os.environ, "PYTHONPATH": str(tree), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def contents(folder: Path) -> dict[str, str]:
    """Every file and link below a folder with what is in it, but for environments."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and "venvs" not in path.parts
    }


@pytest.fixture
def wheel(tree: Path, tmp_path: Path) -> Callable[..., Path]:
    """This tree as a wheel, made in no time, or one whose doctor is another."""

    def make(name: str, doctor: str = "") -> Path:
        info = f"inspectd-{inspectd.__version__}.dist-info"
        path = tmp_path / name / f"inspectd-{inspectd.__version__}-py3-none-any.whl"
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            for package in ("inspectd", "calibration"):
                for file in sorted((tree / package).rglob("*")):
                    if file.is_file() and "__pycache__" not in file.parts:
                        text = doctor.encode() if file.name == "doctor.py" else b""
                        place = file.relative_to(tree).as_posix()
                        archive.writestr(place, text or file.read_bytes())
            head = f"Metadata-Version: 2.1\nName: inspectd\nVersion: {inspectd.__version__}\n"
            archive.writestr(f"{info}/METADATA", head + "Provides-Extra: openvino\n")
            tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            archive.writestr(f"{info}/WHEEL", tags)
            points = "[console_scripts]\ninspectd = inspectd.cli:main\n"
            archive.writestr(f"{info}/entry_points.txt", points)
            archive.writestr(f"{info}/RECORD", "")
        return path

    return make


def made(result: subprocess.CompletedProcess[str]) -> str:
    """The output of a run that must succeed."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_everything_has_its_place(install: Install, root: Path, tree: Path) -> None:
    """Program, command, units, user, directories, completion, examples; and what to do next."""
    assert "systemctl enable --now inspectd.target inspectd@inspectd" in made(install())
    files = contents(root)
    assert files[CURRENT] == sys.prefix
    assert files[STATION] == (tree / "deploy" / "inspectd.toml").read_text()
    assert (root / STATION).stat().st_mode & 0o777 == 0o640
    assert files[UNIT] == (tree / "systemd" / "inspectd@.service").read_text()
    assert "exec /opt/inspectd/current/bin/inspectd" in files["usr/local/bin/inspectd"]
    assert "complete " in files["usr/local/share/bash-completion/completions/inspectd"]
    for name in ("sysusers", "tmpfiles"):
        assert files[f"usr/local/lib/{name}.d/inspectd.conf"]
    documents = {name.removeprefix("usr/local/share/doc/inspectd/") for name in files}
    assert {"plc/README.md", "mosquitto/inspectd.acl", "drop-ins/gpu.conf"} <= documents


def test_twice_is_once(install: Install, root: Path) -> None:
    """A second run changes nothing, least of all a configuration that someone has edited."""
    made(install())
    (root / STATION).write_text("product = 'mine'\n")
    before = contents(root)
    assert f"kept: {root}/{STATION}" in made(install())
    assert contents(root) == before


def test_a_station_by_its_name(install: Install, root: Path, tmp_path: Path) -> None:
    """``--config press4.toml`` is the instance press4, beside those that are there."""
    own = tmp_path / "press4.toml"
    own.write_text("product = 'p'\n")
    made(install())
    assert "inspectd@press4" in made(install("--config", own))
    assert {STATION, "etc/inspectd/press4.toml"} <= set(contents(root))


def test_another_prefix(install: Install, root: Path) -> None:
    """The unit and the command follow it."""
    made(install("--prefix", "/srv/inspectd"))
    files = contents(root)
    assert "ExecStart=/srv/inspectd/current/bin/inspectd run" in files[UNIT]
    assert "exec /srv/inspectd/current/bin/inspectd" in files["usr/local/bin/inspectd"]
    assert "srv/inspectd/current" in files


def test_removal_keeps_what_is_the_plants(install: Install, root: Path) -> None:
    """Configuration and products stay; with --purge they go too."""
    made(install())
    product = root / "var" / "lib" / "inspectd" / "products" / "p"
    product.mkdir(parents=True)
    (product / "kept").touch()
    made(install("--remove"))
    assert set(contents(root)) == {
        *(STATION, "var/lib/inspectd/products/p/kept"),
        "usr/local/lib/sysusers.d/inspectd.conf",
    }
    made(install("--remove"))
    made(install("--remove", "--purge"))
    assert contents(root) == {}


def test_a_dry_run_changes_nothing(install: Install, root: Path) -> None:
    """It says what it would do."""
    assert "would: ln -sfn" in made(install("--dry-run"))
    assert "would: rm -f" in made(install("--dry-run", "--remove"))
    assert not root.exists()


def test_an_upgrade_keeps_the_old_one_until_the_new_one_works(
    install: Install, root: Path, wheel: Callable[..., Path]
) -> None:
    """A real environment from a wheel; a broken wheel changes nothing, a good one is taken."""
    offline = {
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": sysconfig.get_paths()["purelib"],  # the packages that the wheel needs
    }
    python = ("--python", sys.executable)
    made(install(*python, "--package", wheel("first"), **offline))
    first = (root / CURRENT).readlink()
    assert first.parent == Path("/opt/inspectd/venvs")
    script = (root / first.relative_to("/") / "bin" / "inspectd").read_text()
    assert script.startswith(f"#!{first}/bin/python")
    broken = install(*python, "--package", wheel("broken", "raise SystemExit(9)"), **offline)
    assert broken.returncode == 1
    assert "the program was not changed" in broken.stderr
    assert (root / CURRENT).readlink() == first
    assert len(list((root / "opt/inspectd/venvs").iterdir())) == 1
    assert f"kept: {first}" in made(install(*python, "--package", wheel("new"), **offline))
    assert (root / CURRENT).readlink() != first
    assert len(list((root / "opt/inspectd/venvs").iterdir())) == 2


def fake(folder: Path, name: str, text: str) -> Path:
    """A program that says something else than the real one."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_errors_name_the_remedy(install: Install, root: Path, tmp_path: Path) -> None:
    """And nothing is changed before everything is checked."""
    old = fake(tmp_path, "old", 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    bare = fake(tmp_path, "bare", 'case "$2" in *ensurepip*) exit 1;; esac')
    fake(tmp_path, "df", 'echo head; echo "/dev/sda 9 9 7 99% /"')
    narrow = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    for result, words in (
        (install("--python", old), "Python 3.9.2 is too old; give 3.11 or newer with --python"),
        (install("--python", bare), "apt-get install python3-venv"),
        (install("--python", "/no/python"), "no such program"),
        (install("--python", sys.executable, **narrow), "7 MiB free, 1500 are needed; make room"),
        (install("--venv", tmp_path), "pip install inspectd into it"),
        (install("--config", tmp_path / "no.toml"), "no such file; give a configuration"),
    ):
        assert result.returncode == 1
        assert words in result.stderr
    for options in (("--colour",), ("--config",), ("--purge",), ("--prefix", "here")):
        result = install("--python", sys.executable, *options)
        assert result.returncode == 2
        assert "--help" in result.stderr
    assert not root.exists()


def test_help_has_examples(install: Install) -> None:
    """For the most usual things."""
    text = made(install("--help"))
    assert "Examples:" in text
    assert "--wheelhouse wheels" in text


@pytest.mark.parametrize("name", ["install.sh", "need-packages"])
def test_shellcheck(tree: Path, program: Callable[[str], str], name: str) -> None:
    """Has nothing to say."""
    result = subprocess.run(
        [program("shellcheck"), tree / "deploy" / name], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
