"""The configuration: strict, explained, and silent about secrets."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from inspectd.core import schema
from inspectd.core.config import (
    CREDENTIALS,
    MAX_BASE_BYTES,
    GenicamSection,
    MqttSection,
    StationSection,
    load_product_settings,
    load_settings,
)
from inspectd.core.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "inspectd.toml"
LEAST = 'product = "flange"\n[camera]\npath = "pictures"\n'
SECRET = "correct horse battery"  # noqa: S105 - the test's own


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the surroundings counts."""
    import os

    for name in [name for name in os.environ if name.startswith("INSPECTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file with what is required."""
    path = tmp_path / "inspectd.toml"
    path.write_text(LEAST)
    return path


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """systemd's directory of credentials, empty."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def refused(path: Path) -> str:
    """Why a configuration isn't taken."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return str(caught.value)


# --- where values come from --------------------------------------------------------------------


def test_the_least_configuration_is_enough(config: Path) -> None:
    """Everything else has a default."""
    settings = load_settings(config)
    assert settings.mqtt == MqttSection()
    assert settings.station.base == "inspectd/v1/site/area/line/station"


def test_the_environment_is_strongest(
    config: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a credential, which is over the file."""
    config.write_text(f'{LEAST}[mqtt]\nhost = "file"\nusername = "file"\npassword = "file"\n')
    assert password_of(config) == "file"
    (credentials / "mqtt_password").write_text("credential\n")
    assert password_of(config) == "credential"
    monkeypatch.setenv("INSPECTD_MQTT__PASSWORD", "environment")
    assert password_of(config) == "environment"
    assert load_settings(config).mqtt.host == "file"


def password_of(config: Path) -> str | None:
    """The broker's password in effect."""
    password = load_settings(config).mqtt.password
    return password.get_secret_value() if password else None


def test_nested_values_come_from_the_environment(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value of a section, the others stay."""
    monkeypatch.setenv("INSPECTD_CAMERA__RATE", "12.5")
    monkeypatch.setenv("INSPECTD_QUEUE", "3")
    settings = load_settings(config)
    assert (settings.camera.rate, settings.queue) == (12.5, 3)
    assert settings.camera.path.name == "pictures"


def test_every_credential_is_taken(config: Path, credentials: Path) -> None:
    """Names and secrets by content, certificates and keys by path."""
    config.write_text(f"{LEAST}[mqtt]\ntls = true\n")
    for name in CREDENTIALS:
        (credentials / name).write_text(f" {name} \n")
    mqtt = load_settings(config).mqtt
    assert mqtt.username == "mqtt_username"
    assert mqtt.password is not None
    assert mqtt.password.get_secret_value() == "mqtt_password"
    files = (mqtt.ca_file, mqtt.cert_file, mqtt.key_file)
    assert files == tuple(credentials / name for name in ("mqtt_ca", "mqtt_cert", "mqtt_key"))


def test_an_unreadable_credential_is_told(config: Path, credentials: Path) -> None:
    """By its place, without its content."""
    (credentials / "mqtt_password").write_bytes(b"\xff\xfe")
    assert "mqtt_password: the credential can't be read" in refused(config)


def test_relative_paths_are_the_files_own(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the daemon is started; absolute ones and the home directory stay."""
    config.write_text(
        f'state_dir = "/var/lib/x"\n{LEAST}[mqtt]\ntls = true\nca_file = "~/ca.pem"\n'
    )
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/")
    settings = load_settings(config)
    assert settings.camera.path == config.parent / "pictures"
    assert settings.state_dir == Path("/var/lib/x")
    assert settings.mqtt.ca_file == Path("/home/me/ca.pem")


def test_relative_paths_of_several_cameras(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the file's own as well."""
    config.write_text('product = "x"\n[[cameras]]\nname = "left"\npath = "pictures"\n')
    monkeypatch.chdir("/")
    assert load_settings(config).cameras[0].path == config.parent / "pictures"  # type: ignore[union-attr]


def test_an_unknown_home_is_told(config: Path) -> None:
    """Not a trace."""
    config.write_text('product = "x"\n[camera]\npath = "~nobody-of-this-name/pictures"\n')
    assert "~nobody-of-this-name" in refused(config)


# --- what is refused ---------------------------------------------------------------------------


def test_every_problem_is_listed_with_its_place(config: Path) -> None:
    """Unknown keys at any depth, missing ones, and wrong values, all at once."""
    config.write_text('surprise = 1\nqueue = 0\n[camera]\nrat = 5\n[mqtt]\nversion = "4"\n')
    text = refused(config)
    assert str(config) in text
    for place in ("surprise: unknown key", "camera.rat: unknown key"):
        assert place in text
    for place in ("queue:", "mqtt.version:", "camera.path: is required"):
        assert place in text
    assert "pydantic" not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("_env_file = 'x'\n" + LEAST, "_env_file: unknown key"),
        (LEAST + "[mqtt]\npassword = 'x'\n", "a password needs a username"),
        (LEAST + "[mqtt]\ntls = true\ncert_file = 'x'\n", "belong together"),
        (LEAST + "[mqtt]\nca_file = 'x'\n", "tls is off"),
        (LEAST + "[station]\nline = 'a/b'\n", "station.line"),
        (LEAST + "[station]\nroot = 'a/+/b'\n", "station.root"),
        (LEAST.replace("flange", "../flange"), "product"),
        ("product = \n", "can't be read"),
        ("product = 'x'\ncamera = 5\n", "camera"),
    ],
)
def test_contradictions_are_explained(config: Path, content: str, says: str) -> None:
    """In a sentence, with what to do."""
    config.write_text(content)
    assert says in refused(config)


def test_a_missing_file_names_the_example(tmp_path: Path) -> None:
    """Where to begin."""
    assert "deploy/inspectd.toml" in refused(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("INSPECTD_MQTT__HOTS", "x", "mqtt.hots: unknown key"),
        ("INSPECTD_MQTT", "{bad", "mqtt"),
        ("INSPECTD_QUEUE", "many", "queue"),
    ],
)
def test_a_wrong_environment_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    """As for the file."""
    monkeypatch.setenv(name, value)
    assert says in refused(config)


def test_long_topics_are_refused() -> None:
    """A verdict names one of them and has 1 KiB for everything."""
    root = "ü" * 64
    station = "s" * (MAX_BASE_BYTES - len(f"{root}/site/area/line/".encode()))
    assert len(StationSection(root=root, station=station).base.encode()) == MAX_BASE_BYTES
    with pytest.raises(ValueError, match="choose shorter names"):
        StationSection(root=root, station=station + "s")


# --- secrets -----------------------------------------------------------------------------------


def test_the_password_is_not_shown(config: Path) -> None:
    """Neither as text nor in a dump."""
    config.write_text(f'{LEAST}[mqtt]\nusername = "me"\npassword = "{SECRET}"\n')
    settings = load_settings(config)
    for shown in (repr(settings), str(settings), str(settings.model_dump()), repr(settings.mqtt)):
        assert SECRET not in shown
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == SECRET


@pytest.mark.parametrize(
    "content",
    [
        f'{LEAST}[mqtt]\npassword = "{SECRET}"\n',
        f'{LEAST}[mqtt]\nusername = "me"\npassword = ["{SECRET}"]\n',
        f'{LEAST}[mqtt]\nusername = "me"\npasword = "{SECRET}"\n',
        f'{LEAST}[mqtt]\nusername = "me"\npassword = "{SECRET}" oops\n',
        f'{LEAST}[mqtt]\nusername = "me"\nport = "{SECRET}"\npassword = "x"\n',
    ],
)
def test_no_error_shows_a_secret(config: Path, content: str) -> None:
    """Not even where the secret stands in the wrong place."""
    config.write_text(content)
    assert SECRET not in refused(config)


# --- products ----------------------------------------------------------------------------------


def test_a_product_has_settings_of_its_own(config: Path) -> None:
    """Beside the file, by the product's name; defaults where there is none."""
    folder = config.parent / "products.d"
    folder.mkdir()
    (folder / "flange.toml").write_text("deadline_ms = 250\n")
    assert load_product_settings(config, "flange").deadline_ms == 250
    assert load_product_settings(config, "other").deadline_ms == 1000


@pytest.mark.parametrize("content", ["deadline = 5\n", "deadline_ms = 0\n", "deadline_ms"])
def test_a_wrong_product_file_is_named(config: Path, content: str) -> None:
    """With the place in it."""
    folder = config.parent / "products.d"
    folder.mkdir()
    (folder / "flange.toml").write_text(content)
    with pytest.raises(ConfigError, match=r"flange\.toml"):
        load_product_settings(config, "flange")


# --- schema and example ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [(schema.SETTINGS, schema.settings_schema()), (schema.PRODUCT, schema.product_schema())],
)
def test_the_committed_schema_is_fresh(name: str, text: str) -> None:
    """The file is what the model says today."""
    path = schema.SCHEMA.with_name(name)
    assert path.is_file(), f"{path} is missing; make it with: {schema.REGENERATE}"
    assert json.loads(path.read_text()) == json.loads(text), (
        f"{name} is stale; write it anew with: {schema.REGENERATE}"
    )


def test_the_example_is_valid_and_shows_the_defaults() -> None:
    """Every value in it is the default, but for those that are required."""
    content = tomllib.loads(EXAMPLE.read_text())
    validator = Draft202012Validator(json.loads(schema.settings_schema()))
    assert list(validator.iter_errors(content)) == []
    settings = load_settings(EXAMPLE)
    least = settings.model_copy(update={"camera": type(settings.camera)(path=settings.camera.path)})
    assert settings == least
    assert settings.mqtt == MqttSection()
    assert settings.station == StationSection()
    assert load_product_settings(EXAMPLE, "bottle").deadline_ms == 1000


def test_the_example_names_every_setting() -> None:
    """Those that are off by default stand in it as comments."""
    text = EXAMPLE.read_text()
    content = json.loads(schema.settings_schema())
    sections = [content, *content["$defs"].values()]
    for name in [key for section in sections for key in section["properties"]]:
        assert f"{name} =" in text or f"[{name}]" in text, f"{name} is not in {EXAMPLE}"


def test_a_station_needs_a_product(config: Path) -> None:
    """At the top, or in each camera."""
    config.write_text('[camera]\npath = "x"\n')
    assert "product: is required" in refused(config)


def test_one_camera_or_several(config: Path) -> None:
    """`[camera]` and `[[cameras]]` exclude each other, and one of them must be there."""
    for text in ("", '[camera]\npath = "x"\n[[cameras]]\npath = "y"\n'):
        config.write_text('product = "bottle"\n' + text)
        assert "one [camera], or several" in refused(config)


def test_each_of_several_cameras_has_a_lane(config: Path) -> None:
    """Its own topics, client id and, where it says so, product."""
    config.write_text(
        'product = "bottle"\n[station]\nstation = "s1"\n[mqtt]\nclient_id = "me"\n'
        '[[cameras]]\nname = "left"\npath = "x"\n'
        '[[cameras]]\ntype = "genicam"\nname = "right"\nproduct = "nut"\nserial = "7"\n'
    )
    left, right = load_settings(config).lanes
    assert (left.product, left.station.station, left.mqtt.client_id) == (
        "bottle",
        "s1-left",
        "me-left",
    )
    assert (right.product, right.station.base.rsplit("/", 1)[1]) == ("nut", "s1-right")


def test_cameras_need_names_of_their_own(config: Path) -> None:
    """Two lanes would share topics and ledger."""
    config.write_text('product = "bottle"\n[[cameras]]\npath = "x"\n[[cameras]]\npath = "y"\n')
    assert "name of its own" in refused(config)


def test_a_genicam_camera_is_named_by_serial_or_user_id(config: Path) -> None:
    """Never by index: the order of cameras changes."""
    config.write_text('product = "bottle"\n[camera]\ntype = "genicam"\n')
    text = refused(config)
    assert "serial or user_id" in text


def test_the_user_set_is_written_before_trigger_and_features(config: Path) -> None:
    """Loading it afterwards would undo them."""
    config.write_text(
        'product = "bottle"\n[camera]\ntype = "genicam"\nserial = "7"\ntrigger = "encoder"\n'
        "divider = 4\n[camera.features]\nGain = 2.0\nExposureTime = 900\n"
    )
    camera = load_settings(config).lanes[0].camera
    assert isinstance(camera, GenicamSection)
    assert [name for name, _ in camera.written_features()] == [
        "UserSetSelector",
        "UserSetLoad",
        "TriggerSelector",
        "TriggerMode",
        "TriggerSource",
        "TriggerDivider",
        "Gain",
        "ExposureTime",
    ]
