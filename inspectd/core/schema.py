"""The JSON schemas of the manifest and of the configuration, committed beside this file.

Whoever reads bundles without this program validates ``manifest.json`` with the first; editors
complete and check ``inspectd.toml`` and ``products.d/*.toml`` with the others.
``python -m inspectd.core.schema`` writes them.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from inspectd.core.bundle import Manifest
from inspectd.core.config import ProductSettings, Settings

SCHEMA = Path(__file__).with_name("manifest.schema.json")
SETTINGS = "inspectd.schema.json"
PRODUCT = "product.schema.json"
REGENERATE = "python -m inspectd.core.schema"


def manifest_schema() -> str:
    """Of ``manifest.json``, as JSON text."""
    return _schema(Manifest)


def settings_schema() -> str:
    """Of ``inspectd.toml``, as JSON text."""
    return _schema(Settings)


def product_schema() -> str:
    """Of ``products.d/<product>.toml``, as JSON text."""
    return _schema(ProductSettings)


def main() -> None:
    """Writes the schemas to where they are committed."""
    SCHEMA.write_text(manifest_schema(), encoding="utf-8")
    SCHEMA.with_name(SETTINGS).write_text(settings_schema(), encoding="utf-8")
    SCHEMA.with_name(PRODUCT).write_text(product_schema(), encoding="utf-8")


def _schema(model: type[BaseModel]) -> str:
    """JSON Schema 2020-12 from the model itself."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(),
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    main()
