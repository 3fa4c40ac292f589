"""The daemon's configuration: one model per section, unknown keys forbidden.

Values come, strongest first, from the environment (``INSPECTD_MQTT__HOST``), from systemd
credentials (``$CREDENTIALS_DIRECTORY/mqtt_password``), and from the TOML file. What belongs to one
product lies beside the file in ``products.d/<product>.toml``.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from inspectd.core.errors import ConfigError

CREDENTIALS = {
    "mqtt_username": "username",
    "mqtt_password": "password",
    "mqtt_ca": "ca_file",
    "mqtt_cert": "cert_file",
    "mqtt_key": "key_file",
}
"""systemd credential to the field of ``[mqtt]`` that it sets; files are passed as paths."""

ProductId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
TopicRoot = Annotated[str, Field(pattern=r"^[^/+#\x00]+(/[^/+#\x00]+)*$", max_length=128)]


MAX_BASE_BYTES = 160
"""Of a station's topics, up to the last level: a verdict names one and stays below 1 KiB."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class StationSection(_Section):
    """Who and where this station is; makes the MQTT topics."""

    root: TopicRoot = "inspectd/v1"
    """First levels of every topic."""
    site: Name = "site"
    area: Name = "area"
    line: Name = "line"
    station: Name = "station"

    @property
    def base(self) -> str:
        """Prefix of every topic, without a slash at its end."""
        return f"{self.root}/{self.site}/{self.area}/{self.line}/{self.station}"

    @model_validator(mode="after")
    def _short(self) -> StationSection:
        if (size := len(self.base.encode())) > MAX_BASE_BYTES:
            raise ValueError(
                f"root, site, area, line and station make {size} bytes, more than "
                f"{MAX_BASE_BYTES}; choose shorter names"
            )
        return self


class FolderSection(_Section):
    """Pictures from a directory instead of a camera."""

    type: Literal["folder"] = "folder"
    name: Name = "camera"
    """Named in every verdict's record."""
    product: ProductId | None = None
    """What passes before it, where that isn't the station's product."""
    path: Path
    """Directory of pictures, replayed in name order; a file's stem is the part id."""
    rate: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Parts per second."""
    loop: bool = False
    """Begin again after the last picture; otherwise the daemon ends there."""
    start_delay_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """Seconds before the first part."""


FeatureValue = bool | int | float | str


class GenicamSection(_Section):
    """A GenICam camera, through the GenTL producer of its maker."""

    type: Literal["genicam"]
    name: Name = "camera"
    """Named in every verdict's record; parts are called after it."""
    product: ProductId | None = None
    """What passes before it, where that isn't the station's product."""
    cti: list[Path] = []
    """GenTL producers (.cti); by default all in the directories of GENICAM_GENTL64_PATH."""
    serial: str = ""
    """The camera's serial number; it or `user_id` is required."""
    user_id: str = ""
    """The camera's user-defined name (DeviceUserID)."""
    trigger: Literal["free-run", "software", "line", "encoder"] = "line"
    """What takes a picture. Parts of `software` come at `rate`, from the daemon's own clock."""
    rate: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Parts per second with the software trigger."""
    source: str = ""
    """TriggerSource; by default Line0 for `line`, Encoder0 for `encoder`."""
    activation: Literal["", "RisingEdge", "FallingEdge", "AnyEdge", "LevelHigh", "LevelLow"] = ""
    """TriggerActivation; by default the camera's own."""
    delay_us: Annotated[float, Field(ge=0)] | None = None
    """TriggerDelay, microseconds."""
    debounce_us: Annotated[float, Field(ge=0)] | None = None
    """LineDebouncerTime of the source's line, microseconds."""
    divider: Annotated[int, Field(ge=1)] | None = None
    """TriggerDivider: every n-th edge takes a picture."""
    trigger_counter: str = ""
    """The camera's counter of triggers, such as Counter0: missed triggers are found by it. Without
    one, lost frames are found by frame ids, and a trigger that makes no frame can't be seen."""
    expected_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Parts per second that pass while the camera is away: each is answered `undecided`. With a
    trigger counter rather too low than too high: the counter adds the rest when it is back."""
    frame_timeout_ms: Annotated[int, Field(ge=10, le=60_000)] = 500
    """From a trigger to its frame; then the part is answered `undecided`."""
    user_set: str = "Default"
    """Loaded before anything is written; empty: the camera stays as it is."""
    features: dict[str, FeatureValue] | list[dict[str, FeatureValue]] = {}
    """SFNC features, written in this order and read back. `Feature[Selector=Value]` sets a selector
    first; a list of tables where one feature is written twice."""
    chunks: bool = True
    """Take counters, time stamps and exposure from chunk data where the camera has them."""
    buffers: Annotated[int, Field(ge=2, le=512)] = 8
    """Buffers given to the producer."""
    buffer_handling: Literal["OldestFirst", "OldestFirstOverwrite", "NewestOnly"] = "OldestFirst"
    """StreamBufferHandlingMode."""
    ring: Annotated[int, Field(ge=2, le=1024)] = 16
    """Pictures between the camera's process and the inspector; more than `queue`."""
    open_timeout_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """How long the camera may take to come at the start."""
    cpu_affinity: list[Annotated[int, Field(ge=0)]] = []
    """Cores for the camera's process; by default all."""
    realtime_priority: Annotated[int, Field(ge=0, le=99)] = 0
    """SCHED_FIFO priority of the camera's process; 0: an ordinary one."""

    @model_validator(mode="after")
    def _consistent(self) -> GenicamSection:
        if not self.serial and not self.user_id:
            raise ValueError("name the camera by serial or user_id (`inspectd camera list`)")
        if self.trigger_counter and self.trigger in ("free-run", "software"):
            raise ValueError(f"trigger_counter is for line and encoder, not {self.trigger}")
        if self.trigger_counter and not self.chunks:
            raise ValueError("trigger_counter needs chunks = true")
        return self

    def written_features(self) -> list[tuple[str, FeatureValue]]:
        """All that is written to the camera, in order: user set, trigger, features."""
        written: list[tuple[str, FeatureValue]] = []
        if self.user_set:
            written += [("UserSetSelector", self.user_set), ("UserSetLoad", "execute")]
        written += self._trigger_features()
        if self.trigger_counter:
            written.append(("CounterSelector", self.trigger_counter))
        tables = [self.features] if isinstance(self.features, dict) else self.features
        return written + [pair for table in tables for pair in table.items()]

    def _trigger_features(self) -> list[tuple[str, FeatureValue]]:
        if self.trigger == "free-run":
            return []
        by_mode = {"software": "Software", "line": "Line0", "encoder": "Encoder0"}
        source = self.source or by_mode[self.trigger]
        written: list[tuple[str, FeatureValue]] = [
            ("TriggerSelector", "FrameStart"),
            ("TriggerMode", "On"),
            ("TriggerSource", source),
        ]
        if self.activation:
            written.append(("TriggerActivation", self.activation))
        if self.delay_us is not None:
            written.append(("TriggerDelay", self.delay_us))
        if self.divider is not None:
            written.append(("TriggerDivider", self.divider))
        if self.debounce_us is not None:
            written += [("LineSelector", source), ("LineDebouncerTime", self.debounce_us)]
        return written


def _camera_type(value: Any) -> str:
    """`folder` where nothing else is said."""
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return str(found or "folder")


CameraSection = Annotated[
    Annotated[FolderSection, Tag("folder")] | Annotated[GenicamSection, Tag("genicam")],
    Discriminator(_camera_type),
]
"""The source of parts: `type` says which."""


class MqttSection(_Section):
    """The broker that verdicts go to."""

    host: Annotated[str, Field(min_length=1)] = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    version: Literal["5", "3.1.1"] = "5"
    """MQTT protocol version."""
    client_id: Annotated[str, Field(max_length=64)] = ""
    """Must be unique at the broker; by default made of line and station."""
    username: str | None = None
    password: SecretStr | None = None
    """Better given as the systemd credential `mqtt_password`."""
    tls: bool = False
    """Encrypt, and check the broker's certificate and host name."""
    ca_file: Path | None = None
    """Authorities to trust; by default the system's."""
    cert_file: Path | None = None
    """This client's certificate, where the broker asks for one."""
    key_file: Path | None = None
    """Key of `cert_file`."""
    keepalive_s: Annotated[int, Field(ge=1, le=3600)] = 10
    """Seconds after which a silent connection counts as lost."""
    send_result: bool = True
    """Publish the full record beside the verdict."""
    send_mask: bool = True
    """Publish the defect mask (PNG) of failed parts."""
    commands: bool = True
    """Obey commands on ``cmd/<verb>``; who may publish there is the broker's to say."""

    @model_validator(mode="after")
    def _consistent(self) -> MqttSection:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; give both or none")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("certificates are given but tls is off; set tls = true")
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        return self


class LedgerSection(_Section):
    """The record of triggers and verdicts on disk."""

    durability: Literal["normal", "full"] = "normal"
    """`normal` outlives the daemon's death; `full` also a power cut, at some ms per part."""
    max_rows: Annotated[int, Field(ge=1000)] = 200_000
    """Delivered verdicts kept; the oldest go first. Undelivered ones are kept beyond it."""
    max_undelivered: Annotated[int, Field(ge=1000)] = 1_000_000
    """Verdicts kept for a broker that doesn't come; beyond it the oldest are given up, alarmed."""
    max_age_days: Annotated[float, Field(gt=0, le=3650)] = 90.0
    """Verdicts older than this go, undelivered ones with an alarm."""
    max_mib: Annotated[int, Field(ge=16)] = 2048
    """Size of the ledger: beyond it masks and records of waiting verdicts go first, alarmed."""
    min_free_mib: Annotated[int, Field(ge=0)] = 256
    """With less free on its disk, masks and records of waiting verdicts aren't kept, alarmed."""


class BatchingSection(_Section):
    """Cameras whose products have the same model share one engine, and inferences."""

    max_batch: Annotated[int, Field(ge=1, le=64)] = 1
    """Pictures of several cameras in one inference; 1: each camera has an engine of its own. On a
    GPU about the number of cameras (`inspectd build --batch`); a CPU gains nothing from it."""
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    """How long a picture waits for those of other cameras at most; never so long that its deadline
    is in danger, and not at all while no other camera has parts."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What one camera of the station needs for itself."""

    product: str
    camera: FolderSection | GenicamSection
    station: StationSection
    """Makes its topics and names its ledger."""
    mqtt: MqttSection


class Settings(BaseSettings):
    """The whole configuration of one station."""

    model_config = SettingsConfigDict(
        env_prefix="INSPECTD_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    product: ProductId | None = None
    """The product to inspect; `inspectd product list` names them."""
    runtime: Literal[
        "auto",
        "tensorrt",
        "tensorrt-fp16",
        "tensorrt-fp32",
        "tensorrt-int8",
        "openvino",
        "openvino-int8",
        "openvino-bf16",
        "onnxruntime",
        "onnxruntime-int8",
        "simulated",
    ] = "auto"
    """Inference runtime; `auto` takes a proven TensorRT engine (`inspectd build`), else the fastest
    on the CPU in fp32."""
    fallback: Literal["", "openvino", "onnxruntime"] = ""
    """Takes over where the runtime can't start, or fails on part after part; empty: the daemon ends
    with a failure, and systemd starts it anew."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of inference; 0 takes all cores."""
    queue: Annotated[int, Field(ge=1, le=1024)] = 8
    """Parts that may wait for inspection; beyond it they are answered undecided (overrun)."""
    drain_s: Annotated[float, Field(ge=0, le=300)] = 10.0
    """Seconds to finish waiting parts and messages at a stop."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    state_dir: Path | None = None
    """Products and ledger; by default systemd's or XDG's directory."""
    simulation: bool = False
    """Marks every verdict as simulated."""
    station: StationSection = StationSection()
    camera: CameraSection | None = None
    cameras: list[CameraSection] = []
    """Several cameras instead of `camera`: each its own process, product and topics."""
    mqtt: MqttSection = MqttSection()
    ledger: LedgerSection = LedgerSection()
    batching: BatchingSection = BatchingSection()

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.runtime == "simulated" and not self.simulation:
            raise ValueError("runtime: simulated is for simulation = true, never for a real line")
        if (self.camera is None) == (not self.cameras):
            raise ValueError("give one [camera], or several [[cameras]]")
        for camera in (self.camera, *self.cameras):
            if camera is not None and (camera.product or self.product) is None:
                raise ValueError("product: is required, at the top or in each camera")
        names = [camera.name for camera in self.cameras]
        if len(set(names)) < len(names):
            raise ValueError("cameras: each needs a name of its own")
        return self

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """One for each camera. Where there are several, a lane's station is `<station>-<name>`."""
        if self.camera is not None:
            return (Lane(self._product_of(self.camera), self.camera, self.station, self.mqtt),)
        return tuple(self._lane_of(camera) for camera in self.cameras)

    def _lane_of(self, camera: FolderSection | GenicamSection) -> Lane:
        station = StationSection.model_validate(
            {**self.station.model_dump(), "station": f"{self.station.station}-{camera.name}"}
        )
        named = self.mqtt.client_id and f"{self.mqtt.client_id}-{camera.name}"
        mqtt = self.mqtt.model_copy(update={"client_id": named})
        return Lane(self._product_of(camera), camera, station, mqtt)

    def _product_of(self, camera: FolderSection | GenicamSection) -> str:
        return camera.product or self.product or ""  # the validator has seen to one

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over credentials over the file (which arrives as `init_settings`)."""
        return env_settings, _CredentialSource(settings_cls), init_settings


class ProductSettings(_Section):
    """What the line wants of one product; ``products.d/<product>.toml``."""

    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 1000
    """From the trigger to the published verdict; a part that isn't decided by then is answered
    `undecided`, reason `late`."""


class _CredentialSource(PydanticBaseSettingsSource):
    """Reads what systemd's ``LoadCredential=`` put into ``$CREDENTIALS_DIRECTORY``."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Required by the base class; `__call__` does the work."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The credentials that are there, as a part of ``[mqtt]``."""
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            return {}
        found: dict[str, Any] = {}
        for credential, field in CREDENTIALS.items():
            path = Path(directory) / credential
            if path.is_file():
                found[field] = path if field.endswith("_file") else _secret(path)
        return {"mqtt": found} if found else {}


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: the credential can't be read ({reason})") from None


def load_settings(path: Path) -> Settings:
    """Reads and checks the configuration.

    Raises:
        ConfigError: the file can't be read, or a value is missing, unknown or wrong; all of them
            are listed, each with its place.
    """
    content = _read_toml(path)
    private = [key for key in content if key.startswith("_")]
    if private:  # the settings' own constructor knows such names
        raise ConfigError(f"{path}: {private[0]}: unknown key")
    try:
        return Settings(**_absolute(content, path.parent))
    except ValidationError as error:
        raise ConfigError(_explained(path, error)) from None
    except SettingsError as error:
        raise ConfigError(f"the environment: {error}") from None


def load_product_settings(path: Path, product: str) -> ProductSettings:
    """Reads ``products.d/<product>.toml`` beside the configuration; defaults where there is none.

    Raises:
        ConfigError: see `load_settings`.
    """
    file = path.parent / "products.d" / f"{product}.toml"
    if not file.is_file():
        return ProductSettings()
    try:
        return ProductSettings.model_validate(_read_toml(file))
    except ValidationError as error:
        raise ConfigError(_explained(file, error)) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; an annotated example is deploy/inspectd.toml"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error})") from error


def _absolute(content: dict[str, Any], base: Path) -> dict[str, Any]:
    """Relative paths in the file are meant from the file's own directory."""
    resolved = {key: _resolved(value, base) for key, value in content.items()}
    for key in ("path", "ca_file", "cert_file", "key_file", "state_dir", "cti"):
        value = resolved.get(key)
        if isinstance(value, str):
            resolved[key] = str(base.resolve() / _at_home(value))
        elif key == "cti" and isinstance(value, list):
            resolved[key] = [str(base.resolve() / _at_home(str(item))) for item in value]
    return resolved


def _resolved(value: Any, base: Path) -> Any:
    if isinstance(value, dict):
        return _absolute(value, base)
    if isinstance(value, list):
        return [_resolved(item, base) for item in value]
    return value


def _at_home(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: {error}") from None


def _place(location: tuple[int | str, ...]) -> list[int | str]:
    """Without the camera's type, which pydantic puts in as if it were a key."""
    is_camera = location[:1] in (("camera",), ("cameras",))
    tags = ("folder", "genicam") if is_camera else ()
    return [part for part in location if part not in tags]


def _explained(path: Path, error: ValidationError) -> str:
    lines = [f"{path}: {error.error_count()} problem(s)"]
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in _place(problem["loc"])) or "the file"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key; see deploy/inspectd.toml for those that exist")
        elif problem["type"] == "missing":
            lines.append(f"  {where}: is required")
        else:
            lines.append(f"  {where}: {problem['msg']}")
    return "\n".join(lines)
