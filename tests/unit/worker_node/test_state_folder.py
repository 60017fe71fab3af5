"""The worker's files: closed to others, whole after a crash, for one worker at a time."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from octaskly_wire.identity import ca_digest, make_ca
from worker_node.sandbox.disk_meter import LEAST_BYTES, DiskMeter, free_bytes
from worker_node.sandbox.workspace import Workspaces
from worker_node.shell.keyfile import Identity, StateFolder, StateFolderError

CA, NEW_CA = (make_ca("c", datetime.now(UTC))[0] for _ in range(2))

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX")


@pytest.fixture
def folder(tmp_path):
    """Return an open state folder."""
    with closing(StateFolder(tmp_path / "deep" / "state")) as opened:
        yield opened


def test_all_is_closed_to_others(folder):
    """Folder 0700, files 0600, whatever the umask."""
    key = folder.load_or_make_key()
    folder.save_identity(Identity("w", "c", b"cert", (CA,), key))
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()} == {0o600}


def test_the_identity_comes_back(folder):
    """What was stored is what is loaded; before, there is none."""
    assert folder.load_identity() is None
    key = folder.load_or_make_key()
    folder.save_identity(Identity("w", "c", b"cert", (CA,), key))
    loaded = folder.load_identity()
    assert (loaded.worker_id, loaded.cluster_id, loaded.certificate, loaded.ca_certificates) == (
        "w",
        "c",
        b"cert",
        (CA,),
    )
    assert loaded.key.private_bytes_raw() == key.private_bytes_raw()
    assert "key" not in repr(loaded)


def test_trust_comes_back_with_what_was_trusted_before(folder):
    """New CAs take the place of the old, whose digests are kept: a join token that pins one is still this cluster's."""
    key = folder.load_or_make_key()
    before = Identity("w", "c", b"cert", (CA,), key)
    folder.save_identity(before.trusting((NEW_CA, CA)).trusting((NEW_CA,)))
    loaded = folder.load_identity()
    assert loaded.ca_certificates == (NEW_CA,)
    assert loaded.former_ca_digests == before.ca_digests
    assert loaded.is_of(ca_digest(CA))
    assert loaded.is_of(ca_digest(NEW_CA))
    assert not loaded.is_of(ca_digest(make_ca("c", datetime.now(UTC))[0]))


def test_a_file_of_the_version_with_one_ca_is_read(folder):
    """Workers that enrolled before CAs could change keep their identity."""
    key = folder.load_or_make_key()
    path = folder.path / "identity.json"
    old = {"worker_id": "w", "cluster_id": "c", "certificate": b"cert", "ca_certificate": CA}
    path.write_bytes(msgspec.json.encode(old))
    path.chmod(0o600)
    loaded = folder.load_identity()
    assert (loaded.ca_certificates, loaded.former_ca_digests) == ((CA,), ())
    assert loaded.key.private_bytes_raw() == key.private_bytes_raw()


def test_a_half_written_file_is_replaced(folder):
    """A crash between write and rename leaves only a file that the next write removes."""
    (folder.path / ".key.pem.new").write_bytes(b"half")
    folder.load_or_make_key()
    assert not (folder.path / ".key.pem.new").exists()


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o770])
def test_a_folder_open_to_others_is_refused(tmp_path, mode):
    """The text says what to run."""
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(StateFolderError, match="chmod 700"):
        StateFolder(path)


@pytest.mark.parametrize("name", ["key.pem", "identity.json"])
def test_a_file_open_to_others_is_refused(folder, name):
    """A key that others could read is no key."""
    folder.save_identity(Identity("w", "c", b"cert", (CA,), folder.load_or_make_key()))
    (folder.path / name).chmod(0o640)
    with pytest.raises(StateFolderError, match=r"chmod 600 .*" + name):
        folder.load_identity()


@pytest.mark.parametrize("name", ["key.pem", "identity.json"])
def test_a_link_is_no_key(folder, tmp_path, name):
    """Whoever can change what it leads to could change the key."""
    folder.save_identity(Identity("w", "c", b"cert", (CA,), folder.load_or_make_key()))
    (folder.path / name).rename(tmp_path / name)
    (folder.path / name).symlink_to(tmp_path / name)
    with pytest.raises(StateFolderError, match=name + " is a symbolic link"):
        folder.load_identity()


def test_a_link_is_no_state_folder(folder, tmp_path):
    """The text does not tell to change the mode of a link."""
    (tmp_path / "link").symlink_to(folder.path)
    with pytest.raises(StateFolderError, match="link is a symbolic link"):
        StateFolder(tmp_path / "link")


def test_a_foreign_owner_is_refused(tmp_path, monkeypatch):
    """A folder of another user could change under us."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StateFolderError, match="another user"):
        StateFolder(tmp_path / "state")


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b'{"worker_id": 1}'])
def test_a_damaged_identity_is_told(folder, text):
    """Not a traceback but the name of the file and what to do."""
    (folder.path / "identity.json").write_bytes(text)
    (folder.path / "identity.json").chmod(0o600)
    with pytest.raises(StateFolderError, match=r"identity\.json is damaged"):
        folder.load_identity()


def test_two_workers_cannot_share_a_folder(folder):
    """The second one is told which flag helps, and the lock goes with the first."""
    with pytest.raises(StateFolderError, match="--state-dir"):
        StateFolder(folder.path)
    folder.close()
    StateFolder(folder.path).close()


def test_a_path_that_is_no_folder_is_told(tmp_path):
    """A file in the way is no traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(StateFolderError):
        StateFolder(tmp_path / "file" / "state")


def test_workspaces_are_wiped_whatever_they_hold(tmp_path):
    """Depth, modes, links and odd names do not stop the wipe, and links are not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    spaces = Workspaces(tmp_path / "work")
    space = spaces.create("t.1")
    (space / "link").symlink_to(outside)
    (space / "link-file").symlink_to(outside / "precious")
    (space / "\udcff\n").touch()
    locked = space / "locked"
    locked.mkdir()
    (locked / "file").touch()
    locked.chmod(0)
    spaces.wipe(space)
    assert list((tmp_path / "work").iterdir()) == []
    assert (outside / "precious").exists()


def test_leftovers_are_wiped_at_start(tmp_path):
    """What a crash left is gone, files included."""
    spaces = Workspaces(tmp_path / "work")
    (spaces.create("t.1") / "file").touch()
    (tmp_path / "work" / ".wipe-abc").mkdir()
    (tmp_path / "work" / "stray").touch()
    assert spaces.wipe_all() == 3
    assert list((tmp_path / "work").iterdir()) == []


def test_a_folder_as_good_as_new_serves_again_where_it_may(tmp_path):
    """Not for who asked for a new one, and not with something in it."""
    spaces = Workspaces(tmp_path / "work")
    space = spaces.take(is_new=False)
    assert spaces.give_back(space)
    assert spaces.take(is_new=True) != space
    assert spaces.take(is_new=False) == space
    (space / "file").touch()
    assert not spaces.give_back(space)


def test_an_attempt_id_is_never_a_path(tmp_path):
    """Even `..` names a folder inside."""
    folder = Workspaces(tmp_path / "work").create("..")
    assert folder.parent == tmp_path / "work"
    assert folder.resolve() == folder


def meter_of(folder):
    """Return a meter that begins with the folder as it is."""
    return DiskMeter(str(folder), folder.stat().st_dev, free_bytes(str(folder)))


def test_the_disk_meter_counts_in_steps(tmp_path):
    """A big folder takes several steps, and the figure only counts finished knowledge or more."""
    for number in range(5000):
        (tmp_path / str(number)).touch()
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    meter = meter_of(tmp_path)
    figures = [meter.advance([]) for _ in range(6)]
    assert figures[-1] >= 1_000_000 + 5000 * LEAST_BYTES
    assert max(figures) < 30_000_000


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_the_disk_meter_counts_deleted_files_that_are_held_open(tmp_path):
    """Once each, however many descriptors there are; files elsewhere and files with a name do not count here."""
    with (tmp_path / "gone").open("wb") as file, (tmp_path / "there").open("wb") as other:
        file.write(b"x" * 1_000_000)
        other.write(b"x" * 100_000)
        file.flush()
        other.flush()
        again = os.dup(file.fileno())
        (tmp_path / "gone").unlink()
        meter = meter_of(tmp_path)
        assert 1_100_000 <= max(meter.advance([os.getpid()]) for _ in range(6)) < 1_300_000
        os.close(again)


def test_the_disk_meter_outlives_its_folder(tmp_path):
    """A task that runs as the worker's own user may remove it."""
    folder = tmp_path / "work"
    folder.mkdir()
    meter = meter_of(folder)
    folder.rmdir()
    assert meter.is_urgent(0)
    assert [meter.look_now([], 0), meter.advance([])] == [0, 0]
