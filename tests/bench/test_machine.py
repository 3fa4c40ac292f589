"""What the figures were measured on."""

from __future__ import annotations

from inspectd.bench.machine import parse_cpuinfo, this_machine

X86 = """processor\t: 0
model name\t: Some CPU @ 3 GHz
flags\t\t: fpu avx2 avx512_vnni amx_tile
processor\t: 1
model name\t: Some CPU @ 3 GHz
flags\t\t: fpu avx2 avx512_vnni amx_tile
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


def test_a_processor_of_either_kind() -> None:
    """Its model and the instructions that decide how fast a precision is."""
    assert parse_cpuinfo(X86) == ("Some CPU @ 3 GHz", ("avx2", "avx512_vnni", "amx_tile"))
    assert parse_cpuinfo(ARM) == ("", ("asimd", "asimddp", "i8mm"))
    assert parse_cpuinfo("") == ("", ())


def test_this_machine_is_described() -> None:
    """Always with a processor, cores, memory and the versions that matter."""
    found = this_machine()
    assert found.cpu
    assert found.cores >= 1
    assert found.memory_gib > 0.1
    assert {"inspectd", "python", "onnxruntime"} <= set(found.versions)
    assert found.cpu in found.title
