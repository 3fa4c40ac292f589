"""``inspectd run`` and ``inspectd check-config``: the daemon and its configuration."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inspectd.core.config import BatchingSection

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The station's TOML file.", dir_okay=False),
]
UNWILLING = ("inspector", "pump", "publisher", "changeover")
"""Threads that may still be there at the end, if they are stuck."""
DEFAULT_CONFIG = Path("/etc/inspectd/inspectd.toml")
RUN_EXAMPLES = (
    "inspectd run --config inspectd.toml",
    "INSPECTD_MQTT__HOST=broker.plant inspectd run -c inspectd.toml",
    "mosquitto_sub -h broker.plant -t 'inspectd/v1/#' -v",
)
CHECK_EXAMPLES = ("inspectd check-config --config inspectd.toml",)


def run(
    config: ConfigOption = DEFAULT_CONFIG,
    as_configured: Annotated[
        bool,
        typer.Option(
            "--as-configured", help="Forget what commands set: product, stop, simulation."
        ),
    ] = False,
) -> None:
    """Runs the station in the foreground until SIGTERM; SIGHUP reads the configuration again.

    Under systemd it reports readiness once camera, model and warm-up are done. Exit status: 0
    after a stop that was asked for or at the camera's end, 1 after a failure, 2 for a wrong
    configuration.
    """
    from inspectd.core.config import load_settings
    from inspectd.daemon.logs import configure_logs
    from inspectd.daemon.station import Station

    configure_logs(load_settings(config).log_level)
    status = Station(config, forgets_commands=as_configured).run()
    if any(thread.name in UNWILLING for thread in threading.enumerate()):
        os._exit(status)  # stuck in a runtime or a camera: an orderly end would wait for it
    raise typer.Exit(status)


def check_config(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Checks the configuration and what it names, without touching camera or broker."""
    from inspectd.cli.output import show
    from inspectd.core.bundle import MODEL
    from inspectd.core.config import load_product_settings, load_settings
    from inspectd.core.errors import ConfigError
    from inspectd.core.paths import state_dir
    from inspectd.core.store import ProductStore
    from inspectd.publishers.connection import tls_context

    settings = load_settings(config)
    store = ProductStore((settings.state_dir or state_dir()) / "products")
    lines, models = [f"{config} is valid"], []
    for lane in settings.lanes:
        deadline_ms = load_product_settings(config, lane.product).deadline_ms
        camera = lane.camera
        if camera.type == "folder" and not camera.path.is_dir():
            raise ConfigError(f"camera.path: {camera.path}: no such folder")
        source = camera.path if camera.type == "folder" else camera.serial or camera.user_id
        manifest = store.open(lane.product).manifest
        models.append(manifest.files[MODEL])
        lines += [
            f"product   {lane.product} {manifest.revision}",
            f"camera    {camera.type} {source}",
            f"topics    {lane.station.base}/…",
            f"deadline  {deadline_ms} ms",
        ]
    lines.append(f"batching  {_batching(settings.batching, models)}")
    if settings.mqtt.tls:
        tls_context(settings.mqtt)
    lines.append(
        f"broker    {settings.mqtt.host}:{settings.mqtt.port}, MQTT {settings.mqtt.version}, "
        f"TLS {'on' if settings.mqtt.tls else 'off'}"
    )
    show("\n".join(lines))


def _batching(batching: BatchingSection, models: list[str]) -> str:
    """What it comes to with these models, by their sha256, one for each camera."""
    if batching.max_batch == 1:
        return "off: each camera has its own engine"
    if len(set(models)) == len(models):
        return "no effect: no two cameras have the same model"
    return f"up to {batching.max_batch} pictures, which wait {batching.max_wait_ms:g} ms at most"
