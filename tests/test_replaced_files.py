"""Saving replaces the whole content of a file and nothing else: links and permissions stay."""

import errno
import os
import stat
import sys
from pathlib import Path

import fastrnn
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from training_checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.skipif(os.name != "posix", reason="symbolic links and permissions of POSIX")

LAYER = fastrnn.GRU(3, 4, seed=0)


def save_npz(path):
    LAYER.save(path)
    assert repr(fastrnn.GRU.load(path)) == repr(LAYER)


def save_safetensors(path):
    pytest.importorskip("safetensors")
    import fastrnn.safetensors

    fastrnn.safetensors.save(LAYER, path)
    assert repr(fastrnn.safetensors.load(path)) == repr(LAYER)


def save_checkpoint(path):
    header = dict.fromkeys(("options", "text_hash", "counters", "generator")) | {"format": "test"}
    write_checkpoint(str(path), header, {"parameters": LAYER.parameters})
    assert read_checkpoint(str(path), "test")[1]["parameters"].keys() == LAYER.parameters.keys()


@pytest.fixture(params=[(save_npz, "gru.npz"), (save_safetensors, "gru.safetensors"), (save_checkpoint, "gru.npz")])
def saving(request):
    """The functions that save and load a file, and the name of the file."""
    return request.param


@pytest.fixture
def folder(tmp_path):
    """A folder for the test's files; at the end it must contain only the files that the test names."""
    (tmp_path / "store").mkdir()
    yield tmp_path
    assert not list(tmp_path.rglob("*.tmp"))


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to no file yet"])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_symbolic_link_stays_and_the_file_that_it_leads_to_is_replaced(saving, folder, there, relative):
    save, name = saving
    target, link = folder / "store" / "blob", folder / name
    link.symlink_to(Path("store") / "blob" if relative else target)
    if there:
        target.write_bytes(b"before")
    save(link)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_bytes() == link.read_bytes() != b"before"
    assert sorted(path.name for path in folder.rglob("*")) == sorted(["store", "blob", name])


def test_a_chain_of_links_and_a_link_to_the_folder_are_followed(saving, folder):
    save, name = saving
    (folder / "other").symlink_to("store", target_is_directory=True)
    (folder / "store" / name).symlink_to("second")
    (folder / "store" / "second").symlink_to("third")
    save(folder / "other" / name)
    assert (folder / "store" / "third").is_file()
    assert not (folder / "store" / "third").is_symlink()
    assert all((folder / "store" / link).is_symlink() for link in (name, "second"))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o755])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_keeps_its_permissions(saving, folder, mode, umask):
    save, name = saving
    (folder / name).write_bytes(b"before")
    (folder / name).chmod(mode)
    before = os.umask(umask)
    try:
        save(folder / name)
    finally:
        os.umask(before)
    assert mode_of(folder / name) == mode


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_the_umask(saving, folder, umask):
    save, name = saving
    before = os.umask(umask)
    try:
        save(folder / name)
    finally:
        os.umask(before)
    assert mode_of(folder / name) == 0o666 & ~umask


@pytest.mark.parametrize("save", [save_npz, save_safetensors])
def test_a_file_that_nobody_else_may_read_is_never_one_that_others_may(folder, monkeypatch, save):
    path = folder / ("gru.npz" if save is save_npz else "gru.safetensors")
    path.write_bytes(b"before")
    path.chmod(0o600)
    seen, opened = [], os.open

    def open_and_look(name, flags, mode=0o777, **more):
        found = opened(name, flags, mode, **more)
        if str(name).endswith(".tmp"):
            seen.append(stat.S_IMODE(os.fstat(found).st_mode))
        return found

    monkeypatch.setattr(os, "open", open_and_look)
    save(path)
    assert seen == [0o600]


@pytest.mark.parametrize(("save", "name"), [(save_npz, "gru.npz"), (save_safetensors, "gru.safetensors")])
def test_links_in_a_circle_are_an_error_and_stay(folder, save, name):
    (folder / name).symlink_to("back")
    (folder / "back").symlink_to(name)
    with pytest.raises(OSError) as caught:
        save(folder / name)
    assert caught.value.errno == errno.ELOOP
    assert (folder / name).is_symlink()
    assert (folder / "back").is_symlink()


def test_a_failed_save_through_a_link_leaves_link_and_file(folder):
    target, link = folder / "store" / "gru.npz", folder / "gru.npz"
    LAYER.save(target)
    content = target.read_bytes()
    link.symlink_to(target)
    broken = fastrnn.GRU(3, 4, seed=0)
    broken.parameters = broken.parameters | {"bias_hh_l0": LAYER.parameters["bias_hh_l0"][:-1]}
    with pytest.raises(ValueError, match="bias_hh_l0: expected shape"):
        broken.save(link)
    assert link.is_symlink()
    assert target.read_bytes() == content
