"""``inspectd camera``: through our simulated camera's producer, and producers that misbehave."""

from __future__ import annotations

import errno
import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from rich.console import Console
from typer.testing import Result

from inspectd.acquisition.device import GENTL_PATH
from inspectd.cli import camera, camera_sim, output, preview, probe, stills
from inspectd.cli.selection import TriggerName, assignment
from inspectd.core.config import GenicamSection
from inspectd.core.errors import ConfigError
from inspectd.core.images import read_image
from inspectd.simcam.build import producer_path
from inspectd.simcam.commands import COMMANDS
from inspectd.simcam.rig import VARIABLE, DeviceSpec, Rig

Invoke = Callable[..., Result]
HEIGHT, WIDTH = 48, 64
NAMES = [
    ("camera",),
    *(("camera", name) for name, _, _ in camera.COMMANDS),
    *(("camera", "sim", name) for name in ("start", *COMMANDS)),
]
CONFIG = """
product = "bottle"
[camera]
type = "genicam"
cti = ["{cti}"]
serial = "A1"
trigger = "{trigger}"
{more}
"""


@pytest.fixture(scope="session")
def cti() -> Path:
    """Our producer; a test that needs it is skipped without gcc or harvesters."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    if find_spec("harvesters") is None:
        pytest.skip("harvesters isn't installed")
    return producer_path()


@pytest.fixture
def ours(cti: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our producer, which commands find without compiling it into the test's own cache."""
    monkeypatch.setattr("inspectd.simcam.build.producer_path", lambda: cti)
    return cti


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no producers in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(GENTL_PATH, raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def rig(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """One small camera, A1."""
    with Rig(here / "rig", [DeviceSpec("A1", "station-1", WIDTH, HEIGHT)]) as made:
        monkeypatch.setenv(VARIABLE, made.environment()[VARIABLE])
        yield made


@pytest.fixture
def run(invoke: Invoke, cti: Path, rig: Rig, here: Path) -> Invoke:
    """Takes pictures with A1 as configured, 200 a second; must end with the status given."""
    more = "frame_timeout_ms = 100\nfeatures = { AcquisitionFrameRate = 200 }"

    def command(name: str, *arguments: object, status: int = 0) -> Result:
        config = configure(here, cti, more=more)
        result = invoke("camera", name, *arguments, "--config", config)
        assert result.exit_code == status, result.output
        return result

    return command


def configure(folder: Path, cti: Path, trigger: str = "free-run", more: str = "") -> Path:
    """A station's configuration for A1."""
    path = folder / "inspectd.toml"
    path.write_text(CONFIG.format(cti=cti, trigger=trigger, more=more))
    return path


def lines(result: Result) -> list[dict[str, Any]]:
    """The JSON lines of stdout."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def compiled(folder: Path, name: str, source: str) -> Path:
    """A producer of our own making."""
    path = folder / name
    (folder / "source.c").write_text(source)
    subprocess.run(["gcc", "-shared", "-fPIC", folder / "source.c", "-o", path], check=True)
    return path


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_help(invoke: Invoke, names: tuple[str, ...]) -> None:
    """Every command has a help text that ends with examples."""
    result = invoke(*names, "--help")
    assert result.exit_code == 0
    assert f"inspectd {' '.join(names)}" in result.stdout.split("Examples")[1]


def test_names_that_are_kept_twice() -> None:
    """What the options spell out, so that help needs no heavy import, is what it stands for."""
    assert {name.value for name in TriggerName} == set(
        get_args(GenicamSection.model_fields["trigger"].annotation)
    )
    assert (camera_sim.VARIABLE, camera_sim.GENTL_PATH) == (VARIABLE, GENTL_PATH)


# --- list and show ------------------------------------------------------------------------------


def test_list_tells_every_producer(invoke: Invoke, cti: Path, rig: Rig, here: Path) -> None:
    """One that can't be loaded, isn't there or crashes is listed with that fact."""
    (here / "broken.cti").write_text("no library")
    crashed = compiled(here, "crashed.cti", "#include <stdlib.h>\nint GCInitLib(void) { abort(); }")
    other = compiled(here, "other.cti", "int nothing;")
    files = [cti, here / "broken.cti", here / "absent.cti", crashed, other]
    result = invoke("camera", "list", "--json", *(x for path in files for x in ("--cti", path)))
    found = json.loads(result.stdout)
    assert [entry["producer"] for entry in found] == [str(path) for path in files]
    (device,) = found[0]["devices"]
    assert (device["serial"], device["user_id"], device["access"]) == ("A1", "station-1", "free")
    assert found[0]["problem"] is None
    expected = ("can't be loaded", "no such file", "SIGABRT", "no GenTL producer")
    for entry, text in zip(found[1:], expected, strict=True):
        assert entry["devices"] == []
        assert text in entry["problem"]


def test_list_is_not_held_up(
    invoke: Invoke, cti: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer that hangs is stopped when its time is over, and listed with that fact."""
    monkeypatch.setattr(probe, "ANSWER_S", 0.8)
    hung = compiled(
        here, "hung.cti", "#include <unistd.h>\nint GCInitLib(void) { for (;;) pause(); }"
    )
    began = monotonic()
    result = invoke("camera", "list", "--cti", hung)
    assert 0.8 <= monotonic() - began < 5
    assert "doesn't answer within 0.8 s and was stopped" in result.stdout


def test_list_as_a_table(invoke: Invoke, ours: Path, rig: Rig) -> None:
    """--sim adds our producer; without any producer the answer says where one comes from."""
    result = invoke("camera", "list", "--sim")
    assert result.exit_code == 0
    for text in ("A1", "station-1", "inspectd SimCam", "free", str(ours)):
        assert text in result.stdout
    result = invoke("camera", "list")
    assert result.exit_code == 1
    assert GENTL_PATH in result.stderr


def test_list_a_producer_without_cameras(
    invoke: Invoke, cti: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown, with what the producer itself has to say."""
    monkeypatch.setenv(VARIABLE, str(here / "nowhere"))
    result = invoke("camera", "list", "--cti", cti)
    assert result.exit_code == 0
    assert "sees no camera" in result.stdout
    assert "no camera can be seen" in result.stderr


def test_show(invoke: Invoke, cti: Path, rig: Rig) -> None:
    """Features with unit, range and choices; --filter chooses by name."""
    result = invoke("camera", "show", "--cti", cti, "--filter", "trigger")
    assert result.exit_code == 0, result.output
    for text in ("TriggerDelay", "0 to 1000000", "us", "Software, Line0, Encoder0"):
        assert text in result.stdout
    assert "ExposureTime" not in result.stdout


def test_which_camera(invoke: Invoke, cti: Path, here: Path) -> None:
    """One of several has to be named; one that isn't there is told with those that are."""
    environment = {}
    with Rig(here / "two", [DeviceSpec("A1"), DeviceSpec("B2", "second")]) as two:
        environment = two.environment()
    several = invoke("camera", "show", "--cti", cti, env=environment)
    assert several.exit_code == 1
    assert "A1, B2 second; name one with --serial" in several.stderr
    absent = invoke("camera", "grab", "--cti", cti, "--serial", "C3", env=environment)
    assert "no camera C3, visible: A1, B2 second" in absent.stderr
    chosen = ("--cti", cti, "--user-id", "second", "--filter", "exposuret")
    second = json.loads(invoke("camera", "show", *chosen, "--json", env=environment).stdout)
    assert second["camera"]["serial"] == "B2"
    (feature,) = second["features"]
    assert (feature["value"], feature["unit"], feature["least"]) == (1000.0, "us", 10.0)


def test_apply(invoke: Invoke, cti: Path, rig: Rig, here: Path) -> None:
    """What is configured is written and told as read back; what the camera refuses fails."""
    config = configure(here, cti, "line", "features = { ExposureTime = 500, Gain = 99.0 }")
    result = invoke("camera", "show", "--config", config, "--apply", "--filter", "DeviceTemp")
    assert result.exit_code == 1
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    told = {row[0]: row[1:3] for row in rows if row}
    assert list(told)[:2] == ["UserSetSelector", "UserSetLoad"]
    assert told["UserSetLoad"] == ["execute", "done"]
    assert told["TriggerSource"] == ["Line0", "Line0"]
    assert told["ExposureTime"] == ["500", "500"]
    assert told["Gain"] == ["99", "0"]
    assert "wanted 99.0, got 0.0" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("show", "--apply"), "give it with --config"),
        (("show", "--camera", "left"), "--camera chooses from --config"),
        (("grab", "--config", "folder.toml"), 'needs one of type = "genicam"'),
        (("grab", "--config", "folder.toml", "--serial", "A1"), "leave --cti"),
        (("grab", "--config", "absent.toml"), "no such file"),
        (("grab", "--rate", "3"), "--rate is of --trigger software"),
        (("grab", "--feature", "Gain"), "write NAME=VALUE"),
        (("capture", "--product", "../up"), "is not a product's name"),
        (("sim", "status"), "inspectd camera sim start"),
        (("sim", "status", "--dir", "absent"), "no simulated camera there"),
    ],
)
def test_bad_options(invoke: Invoke, here: Path, arguments: tuple[str, ...], expected: str) -> None:
    """What can't be meant is refused before any camera is touched, with what would do."""
    (here / "pictures").mkdir()
    (here / "folder.toml").write_text('product = "a"\n[camera]\npath = "pictures"\n')
    result = invoke("camera", *arguments)
    assert result.exit_code == 2
    assert expected in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ExposureTime=500.5", ("ExposureTime", 500.5)),
        ("Width=64", ("Width", 64)),
        ("Enable=true", ("Enable", True)),
        ("PixelFormat=Mono8", ("PixelFormat", "Mono8")),
        ('DeviceUserID="12"', ("DeviceUserID", "12")),
        ("Gain[GainSelector=All]=2", ("Gain[GainSelector=All]", 2)),
    ],
)
def test_assignment(text: str, expected: tuple[str, object]) -> None:
    """A feature's value is read as in the configuration, and a bare word as a text."""
    assert assignment(text) == expected


def test_assignment_without_a_value() -> None:
    """A name alone is refused with an example."""
    with pytest.raises(ConfigError, match="ExposureTime=500"):
        assignment("ExposureTime")


# --- grab ---------------------------------------------------------------------------------------


def test_grab(run: Invoke, rig: Rig, here: Path) -> None:
    """Pictures as the camera shows them, a line for each; the next grab goes on behind them."""
    colours = [(200, 50, 10), (10, 200, 50), (50, 10, 200)]
    rig.load("A1", [np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for colour in colours])
    features = ("--feature", "ExposureTime=200", "--feature", "PixelFormat=RGB8")
    told = lines(run("grab", "-n", 3, "--out", "shots", *features, "--json"))
    assert [line["file"] for line in told] == ["0001.png", "0002.png", "0003.png"]
    for line in told:
        assert (line["exposure_us"], line["shape"]) == (200.0, [HEIGHT, WIDTH, 3])
    assert told[0]["device_ns"] < told[1]["device_ns"]
    shown = [tuple(read_image(here / "shots" / line["file"])[5, 5].tolist()) for line in told]
    assert set(shown) == set(colours)
    result = run("grab", "--out", "shots")
    assert "saved 1 picture(s) in shots: 0004.png" in result.stdout
    assert len((here / "shots" / "frames.jsonl").read_text().splitlines()) == 4


def test_grab_tells_lost_frames(run: Invoke, rig: Rig) -> None:
    """A software trigger whose frame doesn't come is a line with the reason."""
    rig.command("A1", "no-frame 1")
    options = ("--trigger", "software", "--rate", 10, "--out", "shots", "--json")
    told = lines(run("grab", "-n", 3, *options))
    lost = [line for line in told if line["file"] is None]
    assert [line["lost"] for line in lost if line["lost"] == "frame_lost"] == ["frame_lost"]
    assert len(told) - len(lost) == 3


def test_grab_without_triggers(invoke: Invoke, cti: Path, rig: Rig, here: Path) -> None:
    """A line trigger that never comes ends in what to check, with status 1."""
    config = configure(here, cti, "line")
    result = invoke("camera", "grab", "--config", config, "--timeout", 0.3)
    assert result.exit_code == 1
    assert "saved 0 of 1" in result.stdout
    assert "--trigger free-run" in result.stderr


def test_a_camera_in_use(invoke: Invoke, cti: Path, rig: Rig, here: Path) -> None:
    """While another program has it open, that is what grab says."""
    from inspectd.cameras.genicam import GenicamCamera

    section = GenicamSection(type="genicam", cti=[cti], serial="A1", trigger="free-run")
    with GenicamCamera(section):
        result = invoke("camera", "grab", "--config", configure(here, cti))
    assert result.exit_code == 1
    assert "opened by another program" in result.stderr


# --- capture ------------------------------------------------------------------------------------


def test_capture(run: Invoke, rig: Rig, here: Path) -> None:
    """Fills OUT/train/good behind what is there with every n-th picture, and warns of the light."""
    rig.load("A1", [np.full((HEIGHT, WIDTH), 255, np.uint8)])
    good = here / "bottle" / "train" / "good"
    good.mkdir(parents=True)
    present = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH), np.uint8))[1].tobytes()
    (good / "0007.png").write_bytes(present)
    result = run("capture", "--product", "bottle", "--count", 3, "--every", 2, "--json")
    summary = json.loads(result.stdout)
    assert (summary["saved"], summary["ended"]) == (3, "complete")
    assert (summary["first"], summary["last"]) == ("0008.png", "0010.png")
    assert summary["seen"] == 5
    assert summary["warnings"] == {"overexposed": 3}
    assert "overexposed: 100% of the pixels at 255" in result.stderr
    assert (good / "0007.png").read_bytes() == present
    assert len(list(good.iterdir())) == 4


def test_capture_refuses_another_size(run: Invoke, here: Path) -> None:
    """Pictures of two sizes aren't mixed in one folder."""
    folder = here / "set" / "train" / "good"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), np.zeros((32, 40), np.uint8))
    result = run("capture", "--product", "bottle", "--count", 2, "--out", "set", status=2)
    assert "is 32 x 40 (H x W), the camera gives 48 x 64" in result.stderr
    assert len(list(folder.iterdir())) == 1


def test_capture_on_a_full_disk(run: Invoke, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with what is saved and what to do, and leaves no half picture."""
    write = stills.write_new

    def full(path: Path, content: bytes) -> None:
        if path.name == "0003.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(stills, "write_new", full)
    result = run("capture", "--product", "bottle", "--count", 9, status=1)
    assert "saved 2 of 9" in result.stdout
    assert "No space left on device" in result.stderr
    assert "goes on where it stopped" in result.stderr


def test_a_new_file_is_whole_or_absent(here: Path) -> None:
    """One that is there is kept, and one that fails half-way is removed."""
    stills.write_new(here / "a", b"first")
    with pytest.raises(FileExistsError):
        stills.write_new(here / "a", b"second")
    assert (here / "a").read_bytes() == b"first"
    with pytest.raises(TypeError):
        stills.write_new(here / "b", "no bytes")  # type: ignore[arg-type]
    assert not (here / "b").exists()


def test_capture_loses_the_camera(run: Invoke, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that goes and stays away is told, and so is what is saved."""
    write = stills.write_new

    def unplug(path: Path, content: bytes) -> None:
        write(path, content)
        if path.name == "0003.png":
            rig.command("A1", "unplug")

    monkeypatch.setattr(stills, "write_new", unplug)
    options = ("--count", 500, "--timeout", 0.5, "--json")
    result = run("capture", "--product", "bottle", *options, status=1)
    summary = json.loads(result.stdout)
    assert 3 <= summary["saved"] < 500
    assert "no picture came in 0.5 s" in summary["ended"]
    assert "camera lost" in result.stderr


def test_interrupted_capture(cti: Path, rig: Rig, here: Path) -> None:
    """Ctrl-C keeps whole pictures, says how many, and exits 130.

    Its configured line trigger is replaced, with all that belongs to it.
    """
    config = configure(here, cti, "line", 'trigger_counter = "Counter0"\ndivider = 2')
    command = [sys.executable, "-m", "inspectd", "camera", "capture", "--product", "bottle"]
    good = here / "bottle" / "train" / "good"
    with subprocess.Popen(
        [*command, "--count", "5000", "--config", str(config), "--trigger", "free-run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = monotonic() + 60
        while not (good / "0002.png").exists() and monotonic() < deadline:
            sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=20)
    assert process.returncode == 130
    pictures = list(good.iterdir())
    assert len(pictures) >= 2
    assert all(read_image(path).shape == (HEIGHT, WIDTH) for path in pictures)
    assert f"saved {len(pictures)} of 5000" in said
    assert "Traceback" not in complained


def test_preview_on_a_terminal(run: Invoke, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exposure, saturation and focus are shown live, with what is wrong."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(output, "err", console)
    monkeypatch.setattr(preview, "err", console)
    rig.load("A1", [np.full((HEIGHT, WIDTH), 5, np.uint8)])
    run("capture", "--product", "bottle", "--count", 4)
    for text in (
        "of 4 saved",
        "exposure",
        "mean 5",
        "0.0% at 255",
        "focus",
        "underexposed",
        "calibrate",
    ):
        assert text in screen.getvalue()


def test_measure() -> None:
    """Percentiles, shares and sharpness of a picture whose grey levels are known."""
    image = np.full((100, 100), 100, np.uint8)
    image[:2] = 255
    image[2:3] = 0
    exposure = stills.measure(image)
    assert (exposure.low, exposure.high) == (0, 255)
    assert (exposure.bright, exposure.dark) == (0.02, 0.01)
    assert exposure.mean == pytest.approx(102.1)
    colour = stills.measure(np.stack([image] * 3, axis=2))
    assert colour == exposure
    assert "overexposed" in stills.remarks(exposure, exposure.sharpness)


def test_blurred() -> None:
    """Focus is judged against the best that was seen."""
    noise = np.random.default_rng(1).integers(60, 200, (100, 100)).astype(np.uint8)
    sharp = stills.measure(noise)
    soft = stills.measure(cv2.GaussianBlur(noise, (5, 5), 2.0).astype(np.uint8))
    assert stills.remarks(sharp, sharp.sharpness) == {}
    assert "of the best focus" in stills.remarks(soft, sharp.sharpness)["blurred"]


# --- sim ----------------------------------------------------------------------------------------


def test_sim_start(invoke: Invoke, ours: Path, here: Path) -> None:
    """What it prints makes a shell see the camera, which shows the folder's pictures."""
    (here / "pictures").mkdir()
    for name, size in (("a", (31, 43)), ("b", (62, 86))):
        cv2.imwrite(str(here / "pictures" / f"{name}.png"), np.full(size, 77, np.uint8))
    result = invoke("camera", "sim", "start", "--dir", "my rig", "--images", "pictures")
    assert result.exit_code == 0, result.output
    assert str(ours) in result.stderr
    printed = subprocess.run(
        ["sh", "-c", f'{result.stdout}\necho "${VARIABLE}"; echo "${GENTL_PATH}"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert printed == [str(here / "my rig"), str(ours.parent)]
    environment = {VARIABLE: printed[0], GENTL_PATH: printed[1]}
    shot = invoke("camera", "grab", "--out", "shots", env=environment)
    assert shot.exit_code == 0, shot.output
    picture = read_image(here / "shots" / "0001.png")
    assert picture.shape == (30, 40)
    assert int(picture[3, 3]) == 77


def test_sim_start_with_options(invoke: Invoke, ours: Path, here: Path) -> None:
    """Several cameras of a size; another rig in the same directory is refused."""
    arguments = ("camera", "sim", "start", "--dir", "rig", "--serial", "A1", "--serial", "B2")
    size = ("--width", 128, "--height", 96)
    result = invoke(*arguments, *size, "--json")
    assert json.loads(result.stdout)["serials"] == ["A1", "B2"]
    with Rig.attach(here / "rig") as made:
        assert [(spec.width, spec.height) for spec in made.specs] == [(128, 96)] * 2
    other = invoke(*arguments, "--width", 64, "--height", 48)
    assert other.exit_code == 2
    assert "holds other cameras" in other.stderr


def test_sim_commands(invoke: Invoke, rig: Rig) -> None:
    """Faults and triggers reach the camera; --serial may be left out where there is one."""
    assert invoke("camera", "sim", "drop", 2).stdout == "2 pending\n"
    assert invoke("camera", "sim", "line", 3, "--serial", "A1").stdout == "3 parts\n"
    assert "plugged=True" in invoke("camera", "sim", "status", "--dir", rig.directory).stdout
    wrong = invoke("camera", "sim", "late", 1)
    assert wrong.exit_code == 2
    assert "late takes N MS" in wrong.stderr


def test_sim_completes_serials(invoke: Invoke, rig: Rig) -> None:
    """Tab completes the serial number of a simulated camera."""
    line = "inspectd camera sim drop --serial "
    variables = {"_INSPECTD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "5"}
    assert invoke(env=variables, prog_name="inspectd").stdout.split() == ["A1"]
