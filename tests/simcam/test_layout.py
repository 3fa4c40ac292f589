"""The C side, the Python side and the standard agree on numbers."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

from inspectd.simcam.build import SOURCES
from inspectd.simcam.layout import MAGIC, MAX_DEVICES, VERSION, DeviceRecord, Fault, RigRecord


def test_the_mapped_file_is_the_same_in_c_and_in_python(tmp_path: Path, compiler: str) -> None:
    """Every offset, every size, the magic number and the faults."""
    wanted = {
        "RIG_MAGIC": MAGIC,
        "RIG_VERSION": VERSION,
        "RIG_MAX_DEVICES": MAX_DEVICES,
        "sizeof(struct rig_device)": ctypes.sizeof(DeviceRecord),
        "sizeof(struct rig_file)": ctypes.sizeof(RigRecord),
        "FAULT_KINDS": len(Fault),
    }
    wanted |= {f"FAULT_{fault.name}": int(fault) for fault in Fault}
    for struct, record in (("rig_device", DeviceRecord), ("rig_file", RigRecord)):
        for name, *_ in record._fields_:
            field = getattr(record, name)
            wanted[f"offsetof(struct {struct}, {name})"] = field.offset
            wanted[f"sizeof(((struct {struct} *)0)->{name})"] = field.size
    lines = "".join(f'    printf("%llu\\n", (unsigned long long)({text}));\n' for text in wanted)
    source = tmp_path / "layout.c"
    source.write_text(
        f'#include "{SOURCES / "rig_layout.h"}"\n#include <stddef.h>\n#include <stdio.h>\n'
        f"int main(void)\n{{\n{lines}}}\n"
    )
    subprocess.run([compiler, str(source), "-o", str(tmp_path / "layout")], check=True)
    told = subprocess.run([str(tmp_path / "layout")], capture_output=True, text=True, check=True)
    assert dict(zip(wanted, map(int, told.stdout.split()), strict=True)) == wanted


def test_the_gentl_constants_are_the_standards(gentl: Any) -> None:
    """Each constant of gentl.h that the binding knows has the binding's value."""
    known: dict[str, int] = {}
    for listed in vars(gentl).values():
        known |= {name: int(value) for name, value in getattr(listed, "__members__", {}).items()}
    defined = re.findall(r"^#define (\w+) (-?\d+)$", (SOURCES / "gentl.h").read_text(), re.M)
    ours = {name: int(value) for name, value in defined}
    assert len(ours) > 120
    assert {name: known.get(name) for name in ours} == ours


def test_the_pixel_formats_are_the_standards(gentl: Any) -> None:
    """PFNC values, in camera_features.h and in the enumeration."""
    from harvesters.util.pfnc import dict_by_names

    header = (SOURCES / "camera_features.h").read_text()
    rows = (SOURCES / "camera_features.c").read_text()
    names = {"MONO8": "Mono8", "MONO12P": "Mono12p", "BAYER_RG8": "BayerRG8", "RGB8": "RGB8"}
    for macro, name in names.items():
        found = re.search(rf"#define {macro} (0x\w+)u", header)
        assert found is not None
        assert int(found[1], 16) == dict_by_names[name]
        assert f"{name}={dict_by_names[name]}" in rows
