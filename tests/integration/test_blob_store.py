"""The blob store on a real folder and a real database: each content once, whole or not at all."""

from __future__ import annotations

import os
import sys
import threading
from hashlib import sha256
from typing import NamedTuple

import pytest
from django.db import connection

from dispatcher.ports import BlobMismatch, BlobRefused, BlobTooLarge, NoRoomForBlob
from tasks_app import blob_store as blob_store_module
from tasks_app.blob_store import MEGABYTE, PARTIAL_LIFETIME_S, BlobStore
from tasks_app.models import Blob

pytestmark = pytest.mark.django_db

CONTENT = os.urandom(3 * MEGABYTE + 7)
DIGEST = sha256(CONTENT).hexdigest()


class Usage(NamedTuple):
    """What is looked at of a disk."""

    free: int


@pytest.fixture
def store(tmp_path):
    """Return a store in a fresh folder."""
    return BlobStore(tmp_path / "blobs", max_bytes=8 * MEGABYTE, reserve_bytes=MEGABYTE)


def take(store, content=CONTENT, digest=DIGEST, size=None, sender="w1"):
    """Take a content from where it was cut off to its end; return what came of it."""
    incoming = store.receive(digest, len(content) if size is None else size, sender)
    try:
        for start in range(incoming.received_bytes, len(content), 100_000):
            incoming.write(content[start : start + 100_000])
        return incoming.finish()
    finally:
        incoming.close()


def files(store):
    """Return the names of all files in the store."""
    return sorted(path.name for path in store.folder.rglob("*") if path.is_file())


def test_a_content_lies_under_its_digest_for_nobody_else(store):
    """File and row agree, and no other user of the machine can read it."""
    assert take(store) == DIGEST
    assert files(store) == [DIGEST]
    assert store.has(DIGEST)
    with store.open(DIGEST) as file:
        assert file.read() == CONTENT
    assert Blob.objects.get(sha256=DIGEST).size_bytes == len(CONTENT)
    if sys.platform != "win32":
        path = store.path(DIGEST)
        assert path.stat().st_mode & 0o777 == 0o600
        assert {folder.stat().st_mode & 0o777 for folder in (store.folder, path.parent)} == {0o700}


def test_the_empty_content_is_one_too(store):
    """Nothing needs to be written before it is finished."""
    assert take(store, b"", sha256(b"").hexdigest()) == sha256(b"").hexdigest()
    assert store.has(sha256(b"").hexdigest())


def test_a_digest_may_be_worked_out_on_the_way(store):
    """Neither digest nor size need to be known before the end."""
    assert take(store, digest="", size=-1) == DIGEST
    assert store.has(DIGEST)


def test_what_was_cut_off_goes_on_where_it_was(store):
    """A second store object, as after a restart, goes on too, and the whole is verified."""
    incoming = store.receive(DIGEST, len(CONTENT), "w1")
    incoming.write(CONTENT[:1_000_000])
    incoming.close()
    again = BlobStore(store.folder, max_bytes=8 * MEGABYTE, reserve_bytes=0)
    again.sweep()
    incoming = again.receive(DIGEST, len(CONTENT), "w1")
    assert incoming.received_bytes == 1_000_000
    incoming.close()
    assert take(again) == DIGEST
    assert files(store) == [DIGEST]


def test_a_damaged_beginning_is_found_and_dropped(store):
    """What lay on the disk is hashed like what comes; after the refusal the sender begins afresh."""
    incoming = store.receive(DIGEST, len(CONTENT), "w1")
    incoming.write(b"x" * 1000)
    incoming.close()
    with pytest.raises(BlobMismatch, match=DIGEST):
        take(store)
    assert files(store) == []
    assert take(store) == DIGEST


def test_one_sender_does_not_go_on_with_what_another_sent(store):
    """Nobody can spoil a content for others by beginning it wrongly."""
    incoming = store.receive(DIGEST, len(CONTENT), "w1")
    incoming.write(b"wrong")
    incoming.close()
    other = store.receive(DIGEST, len(CONTENT), "w2")
    assert other.received_bytes == 0
    other.close()


def test_two_links_of_one_sender_may_bring_the_same_content(store, monkeypatch):
    """The second gathers it beside the first, once it has waited in vain; one file is left of both."""
    monkeypatch.setattr(blob_store_module, "WAIT_FOR_OTHER_S", 0.05)
    first = store.receive(DIGEST, len(CONTENT), "w1")
    first.write(CONTENT[:10])
    assert take(store) == DIGEST
    first.write(CONTENT[10:])
    assert first.finish() == DIGEST
    assert files(store) == [DIGEST]


def test_a_link_waits_for_the_one_that_was_cut(store):
    """What the cut one had taken when it ends is not lost to the next one, which came before that."""
    first = store.receive(DIGEST, len(CONTENT), "w1")
    first.write(CONTENT[:1000])
    closing = threading.Timer(0.1, first.close)
    closing.start()
    second = store.receive(DIGEST, len(CONTENT), "w1")
    assert second.received_bytes == 1000
    second.close()
    closing.join()


def test_what_is_here_need_not_come_again(store):
    """All of it counts as received, and it is noted as used."""
    take(store)
    before = Blob.objects.get().used_at
    incoming = store.receive(DIGEST, len(CONTENT), "w2")
    assert incoming.received_bytes == len(CONTENT)
    assert incoming.finish() == DIGEST
    assert Blob.objects.get().used_at > before


def test_a_file_that_lost_its_row_in_a_crash_is_taken_over(store):
    """It was verified before it got its name."""
    take(store)
    Blob.objects.all().delete()
    assert not store.has(DIGEST)
    assert store.receive(DIGEST, len(CONTENT), "w1").received_bytes == len(CONTENT)
    assert store.has(DIGEST)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"short")])
def test_a_row_whose_file_is_gone_or_short_is_no_content(store, damage):
    """The database alone is not believed; storing it again mends it."""
    take(store)
    damage(store.path(DIGEST))
    assert not store.has(DIGEST)
    assert take(store) == DIGEST
    assert store.has(DIGEST)


def test_more_than_was_announced_is_refused(store):
    """The announced size is the end."""
    incoming = store.receive(DIGEST, 10, "w1")
    with pytest.raises(BlobRefused, match="more than the 10 bytes"):
        incoming.write(CONTENT[:11])
    incoming.close()


def test_less_than_was_announced_is_refused_and_kept(store):
    """The rest may still come."""
    incoming = store.receive(DIGEST, len(CONTENT), "w1")
    incoming.write(CONTENT[:1000])
    with pytest.raises(BlobMismatch, match="only 1000 of the"):
        incoming.finish()
    incoming.close()
    assert take(store) == DIGEST


@pytest.mark.parametrize("size", [8 * MEGABYTE + 1, -1])
def test_a_content_above_the_cap_is_refused_and_nothing_is_kept(store, size):
    """Whether it says so at the beginning or only comes to it."""
    with pytest.raises(BlobTooLarge, match="more than the 8 MB a file may have"):
        take(store, b"x" * (8 * MEGABYTE + 1), digest="", size=size)
    assert files(store) == []


def test_no_content_may_use_up_the_disk(store, monkeypatch):
    """What others have announced counts as used; with room again the same content is taken."""
    room = Usage(5 * MEGABYTE)
    monkeypatch.setattr(blob_store_module.shutil, "disk_usage", lambda _: room)
    first = store.receive(DIGEST, len(CONTENT), "w1")
    with pytest.raises(NoRoomForBlob, match="5 MB are free, 6 MB are on their way, 1 MB are kept free"):
        store.receive(DIGEST, len(CONTENT), "w2")
    first.close()
    assert take(store, sender="w2") == DIGEST


@pytest.mark.parametrize("digest", ["../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_what_is_no_digest_names_no_file(store, digest):
    """A digest becomes a path, so it is nothing but one."""
    with pytest.raises(BlobRefused, match="is no SHA-256"):
        store.receive(digest, 1, "w1")
    with pytest.raises(FileNotFoundError):
        store.open(digest)
    assert not store.has(digest)


def test_sweeping_leaves_what_somebody_may_go_on_with(store):
    """Old beginnings and those of unknown contents go; young ones, those under way and whole contents stay."""
    take(store)
    other = sha256(b"other").hexdigest()
    for sender in ("old", "young"):
        incoming = store.receive(other, 5, sender)
        incoming.write(b"o")
        incoming.close()
        if sender == "old":
            os.utime(incoming.path, (0, incoming.path.stat().st_mtime - PARTIAL_LIFETIME_S - 60))
            old = incoming.path.name
    (store.folder / "incoming" / "unknown.123").write_bytes(b"left by a crash")
    under_way = store.receive("", -1, "user")
    assert len(files(store)) == 5
    store.sweep()
    assert old not in files(store)
    assert len(files(store)) == 3
    under_way.close()


def test_sweeping_removes_old_files_that_no_row_names(store):
    """What a crash, or an older backup of the database, left without a row goes after a day; what is named stays."""
    take(store)
    lost, fresh = ("c0" * 32, "c1" * 32)
    for digest in (lost, fresh):
        store.path(digest).parent.mkdir()
        store.path(digest).write_bytes(b"nobody's")
    for digest in (lost, DIGEST):
        os.utime(store.path(digest), (0, store.path(digest).stat().st_mtime - PARTIAL_LIFETIME_S - 60))
    store.sweep()
    assert not store.path(lost).exists()
    assert store.path(fresh).exists()
    assert store.has(DIGEST)


@pytest.mark.django_db(transaction=True)
def test_many_threads_store_and_forget_the_same_content(store):
    """Whoever has stored it finds row and file, or neither after it was forgotten: never one without the other."""
    problems = []

    def bring(number):
        try:
            for _ in range(10):
                take(store, CONTENT[:1000], sha256(CONTENT[:1000]).hexdigest(), sender=f"w{number % 3}")
        except Exception as error:  # noqa: BLE001 - told to the test
            problems.append(error)
        finally:
            connection.close()

    digest = sha256(CONTENT[:1000]).hexdigest()
    threads = [threading.Thread(target=bring, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        with store.lock:
            Blob.objects.filter(sha256=digest).delete()
            store.unlink(digest)
        with store.lock:
            assert Blob.objects.filter(sha256=digest).exists() == store.path(digest).exists()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert set(files(store)) <= {digest}
