"""How benchmarks/run.py hides AVX-512 from rivals."""

import ctypes
import platform
import shutil
import subprocess

import contestants
import hiding
import pytest

LIBRARY = """
unsigned joined(void) {
    unsigned long long found;
    __asm__ volatile("xor %%ecx, %%ecx; xgetbv; mov %%eax, %%eax; shl $32, %%rdx; or %%rdx, %%rax"
                     : "=a"(found) : : "rcx", "rdx");
    return (unsigned)found;
}
unsigned constant(void) { return 0xd0010f; }
"""


@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("cc"), reason="changes code of x86-64")
def test_a_library_is_told_that_there_are_no_registers_of_512_bits(tmp_path):
    (tmp_path / "asks.c").write_text(LIBRARY)
    for name in ("before", "after"):
        folder = tmp_path / name / "lib"
        folder.mkdir(parents=True)
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", tmp_path / "asks.c", "-o", folder / "libasks.so.1"], check=True
        )
    hiding.hide(tmp_path / "after")
    before, after = (ctypes.CDLL(str(tmp_path / name / "lib" / "libasks.so.1")) for name in ("before", "after"))
    assert before.joined() & 7 == 7
    assert after.joined() == 7
    assert before.constant() == after.constant() == 0xD0010F


def test_what_is_no_library_stays_as_it_is(tmp_path):
    path = tmp_path / "script.so.txt"
    path.write_bytes(b"\x31\xc9\x0f\x01\xd0")
    hiding.hide(tmp_path)
    assert path.read_bytes() == b"\x31\xc9\x0f\x01\xd0"


def test_hidden_instruction_sets_have_environments_of_their_own(monkeypatch):
    monkeypatch.setenv("FASTRNN_HIDE", "avx512")
    assert contestants.folder_of("jax").name == "jax-without-avx512"
    assert hiding.limits()["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    monkeypatch.setenv("FASTRNN_HIDE", "")
    assert contestants.folder_of("jax").name == "jax"
    assert hiding.limits() == {}
