"""REST of files on a real database and a real folder: store, list, read back, delete, and what is refused."""

from __future__ import annotations

import errno
import io
from urllib.parse import quote

import pytest

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from dispatcher.ports import BlobMismatch
from tasks_app import blob_store, file_services, incoming_blob
from tasks_app.models import Blob, File
from tests.support.files import FILES, body, digest_of, put, upload

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path):
    """Keep the contents of each test in a folder of its own."""
    settings.DB_PATH = tmp_path / "octaskly.db"


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT)


def names(client, query=""):
    """Return the names that the list shows."""
    return [file["name"] for file in client.get(f"{FILES}{query}").json()["results"]]


def test_what_is_stored_is_read_back_byte_for_byte(client):
    """The answer tells size and digest; the bytes come as an attachment that no browser shows as a page."""
    content = bytes(range(256)) * 5000
    answer = put(client, "in/data set.bin", content)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert (told["name"], told["size"], told["sha256"]) == ("in/data set.bin", len(content), digest_of(content))
    assert told["created_at"].endswith("Z")
    got = client.get(f"{FILES}/in/data%20set.bin", HTTP_ACCEPT="image/png")
    assert (got.status_code, body(got)) == (200, content)
    assert got["ETag"] == f'"{digest_of(content)}"'
    assert got["Content-Type"] == "application/octet-stream"
    assert got["Content-Disposition"] == 'attachment; filename="data set.bin"'
    assert got["X-Content-Type-Options"] == "nosniff"
    assert got["Content-Security-Policy"] == "sandbox; default-src 'none'"
    (entry,) = AuditEntry.objects.filter(event_type="file_uploaded")
    assert digest_of(content) in entry.details


@pytest.mark.parametrize("media_type", ["text/html", "multipart/form-data; boundary=x", "application/json", ""])
def test_any_media_type_is_taken_as_it_is(client, media_type):
    """A body that claims to be a form or JSON is bytes like any other."""
    answer = client.generic("PUT", f"{FILES}/x", b"--x\r\n{", content_type=media_type)
    assert answer.status_code == 201
    assert body(client.get(f"{FILES}/x")) == b"--x\r\n{"


def test_a_file_may_be_empty(client):
    """Nothing is a content, too."""
    assert put(client, "empty", b"").json()["size"] == 0
    assert body(client.get(f"{FILES}/empty")) == b""
    assert client.get(f"{FILES}/empty", HTTP_RANGE="bytes=0-").status_code == 416


def test_the_same_name_again_replaces_the_content(client):
    """200 tells it from the first time; one file is left."""
    assert put(client, "a", b"one").status_code == 201
    answer = put(client, "a", b"two")
    assert (answer.status_code, answer.json()["sha256"]) == (200, digest_of(b"two"))
    assert body(client.get(f"{FILES}/a/")) == b"two"
    assert names(client) == ["a"]


def test_a_part_is_read_by_range(client):
    """As with output; If-Range holds it to one content, If-None-Match saves the bytes, HEAD sends none."""
    put(client, "a", b"0123456789")
    etag = f'"{digest_of(b"0123456789")}"'
    part = client.get(f"{FILES}/a", HTTP_RANGE="bytes=2-4")
    assert (part.status_code, body(part), part["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert part["Content-Length"] == "3"
    assert body(client.get(f"{FILES}/a", HTTP_RANGE="bytes=-3")) == b"789"
    assert body(client.get(f"{FILES}/a", HTTP_RANGE="bytes=8-99")) == b"89"
    assert body(client.get(f"{FILES}/a", HTTP_RANGE="bytes=1-2,4-5")) == b"0123456789"
    beyond = client.get(f"{FILES}/a", HTTP_RANGE="bytes=10-")
    assert (beyond.status_code, beyond["Content-Range"]) == (416, "bytes */10")
    assert body(client.get(f"{FILES}/a", HTTP_RANGE="bytes=1-", HTTP_IF_RANGE=etag)) == b"123456789"
    assert body(client.get(f"{FILES}/a", HTTP_RANGE="bytes=1-", HTTP_IF_RANGE='"other"')) == b"0123456789"
    for tags in (f'"x", {etag}', f"W/{etag}", "*"):
        known = client.get(f"{FILES}/a", HTTP_IF_NONE_MATCH=tags)
        assert (known.status_code, known.content, known["ETag"], "Content-Type" in known) == (304, b"", etag, False)
    head = client.head(f"{FILES}/a")
    assert (head.status_code, head["Content-Length"], head["ETag"], head.content) == (200, "10", etag, b"")


def test_deleting_ends_the_name(client):
    """204 once, 404 afterwards, and the audit trail knows."""
    put(client, "a/b", b"x")
    assert client.delete(f"{FILES}/a/b").status_code == 204
    assert client.delete(f"{FILES}/a/b").status_code == 404
    missing = client.get(f"{FILES}/a/b")
    assert (missing.status_code, missing["Content-Type"]) == (404, "application/problem+json")
    assert "'a/b'" in missing.json()["detail"]
    assert AuditEntry.objects.filter(event_type="file_deleted").count() == 1


HOSTILE = [
    "../a", "a/../b", "..", ".", "/etc/passwd", "a//b", "a//", "a/./b", "a\\b", "c:/x", "a\0b", "a\nb", "a\n", "a\x7fb",
    "a*b", "a?", "[a]", "con", "a/NUL.txt", "a.", "a /b", " a", "e\u0301", "a\u202eb", "x" * 256, "d/" * 16 + "x",
    "sha256:", "sha256:abc", "sha256:" + "A" * 64, "sha256:" + "0" * 64 + "/x", "sha256:../../x", "a:b", "a\ufffd",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=[f"{number}" for number, _ in enumerate(HOSTILE)])
def test_hostile_names_are_refused(client, name, tmp_path):
    """By every method with 400 and the field; nothing is stored anywhere."""
    for method in ("PUT", "GET", "DELETE"):
        path = f"{FILES}/{quote(name, safe='')}"
        answer = client.generic(method, path, b"x", content_type="application/octet-stream")
        assert answer.status_code == 400, method
        assert answer.json()["errors"][0]["field"] == "name"
    assert not File.objects.exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_files_are_listed_by_name_in_pages(client):
    """Each once, sorted, bare uploads aside; the filters narrow it, and a bad one is named."""
    for name in ("b", "a/1", "a/2", "c"):
        put(client, name, name.encode())
    digest = upload(client, b"bare")
    page = client.get(f"{FILES}?limit=3").json()
    assert [file["name"] for file in page["results"]] == ["a/1", "a/2", "b"]
    assert [file["name"] for file in client.get(page["next"]).json()["results"]] == ["c"]
    assert names(client, "?name=b") == ["b"]
    assert names(client, "?uploads=1") == [f"sha256:{digest}"]
    assert names(client, "?uploads=0&ordering=-name") == ["c", "b", "a/2", "a/1"]
    assert client.get(f"{FILES}?uploads=maybe").json()["errors"][0]["field"] == "uploads"


def test_each_user_has_names_of_his_own(client, client_of):
    """The same name is two files, one client's do not exist for another; operators may look by ?owner=."""
    put(client, "a", b"mine")
    other, operator = client_of(Role.CLIENT, "other"), client_of(Role.DISPATCHER)
    assert other.get(f"{FILES}/a").status_code == 404
    assert other.delete(f"{FILES}/a").status_code == 404
    assert put(other, "a", b"yours").status_code == 201
    assert body(client.get(f"{FILES}/a")) == b"mine"
    assert other.get(f"{FILES}/a?owner=client").status_code == 404
    assert names(other, "?owner=client") == []
    assert names(operator) == []
    assert names(operator, "?owner=client") == ["a"]
    assert names(operator, "?owner=nobody") == []
    assert body(operator.get(f"{FILES}/a?owner=client")) == b"mine"
    assert operator.get(f"{FILES}/a").status_code == 404


def test_a_bare_upload_must_be_what_it_promises(client, tmp_path):
    """Another content under that digest is refused, and nothing of it is kept."""
    digest = digest_of(b"right")
    answer = put(client, f"sha256:{digest}", b"wrong")
    assert answer.status_code == 400
    assert digest in answer.json()["detail"]
    assert digest_of(b"wrong") in answer.json()["detail"]
    assert not File.objects.exists()
    assert not Blob.objects.exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert put(client, f"sha256:{digest}", b"right").status_code == 201
    assert put(client, f"sha256:{digest}", b"right").status_code == 200


def test_whoever_knows_only_a_digest_gets_nothing_by_it(client, client_of):
    """Neither reading it nor claiming to upload it leads to somebody else's content; having it does."""
    digest = upload(client, b"secret")
    stranger = client_of(Role.CLIENT, "stranger")
    assert stranger.get(f"{FILES}/sha256:{digest}").status_code == 404
    assert put(stranger, f"sha256:{digest}", b"").status_code == 400
    assert stranger.head(f"{FILES}/sha256:{digest}").status_code == 404
    assert put(stranger, f"sha256:{digest}", b"secret").status_code == 201
    assert body(stranger.get(f"{FILES}/sha256:{digest}")) == b"secret"
    assert Blob.objects.count() == 1


def test_a_content_under_any_name_is_found_by_its_digest(client):
    """So that nobody sends again what is here under a name of his."""
    put(client, "a", b"content")
    head = client.head(f"{FILES}/sha256:{digest_of(b'content')}")
    assert (head.status_code, head["Content-Length"]) == (200, "7")


def test_a_file_beyond_the_cap_is_refused(client, settings):
    """Announced or not, with 413, the field and both numbers; nothing is kept."""
    settings.OCTASKLY_MAX_FILE_MB = 1
    answer = put(client, "a", b"x" * ((1 << 20) + 1))
    assert answer.status_code == 413
    (error,) = answer.json()["errors"]
    assert error["field"] == "size"
    assert "1048577 bytes" in error["message"]
    assert "1 MB" in error["message"]
    assert not Blob.objects.exists()


def test_the_quota_counts_each_content_once(client, client_of, settings):
    """The sum of a user's distinct contents is what counts; replacing and deleting make room; others have their own."""
    settings.OCTASKLY_FILES_QUOTA_MB = 1
    half = b"x" * (600 << 10)
    assert put(client, "a", half).status_code == 201
    assert put(client, "same", half).status_code == 201
    refused = put(client, "b", b"y" * (600 << 10))
    assert refused.status_code == 413
    assert refused.json()["errors"][0]["field"] == "size"
    assert "1 MB" in refused.json()["detail"]
    assert "614400" in refused.json()["detail"]
    assert put(client_of(Role.CLIENT, "other"), "b", b"y" * (600 << 10)).status_code == 201
    client.delete(f"{FILES}/same")
    assert put(client, "a", b"z" * (600 << 10)).status_code == 200
    assert put(client, "b", b"y" * (1 << 20) + b"y").status_code == 413


def test_no_room_is_told_as_a_state_that_passes(client, settings, monkeypatch):
    """A disk below its reserve, and one that is full in the middle, are 503 with Retry-After; nothing is kept."""
    settings.OCTASKLY_DISK_RESERVE_MB = 1 << 40
    answer = put(client, "a", b"x")
    assert answer.status_code == 503
    assert int(answer["Retry-After"]) > 0
    assert "no room" in answer.json()["detail"]
    settings.OCTASKLY_DISK_RESERVE_MB = 0

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(incoming_blob.os, "fsync", full)
        answer = put(client, "a", b"x")
    assert answer.status_code == 503
    assert not Blob.objects.exists()
    assert list((settings.DB_PATH.parent / "blobs" / "incoming").iterdir()) == []


def test_a_body_that_ends_early_is_refused(client):
    """What was cut off does not become a file."""
    with pytest.raises(BlobMismatch):
        file_services.upload(client.user, "a", io.BytesIO(b"half"), 8)
    assert not File.objects.exists()
    assert not Blob.objects.exists()


def test_a_content_that_is_gone_from_the_disk_can_be_sent_again(client, settings):
    """Its loss is told as a missing file instead of a failure, and an upload mends it."""
    digest = upload(client, b"content")
    blob_store.store().path(digest).unlink()
    assert client.head(f"{FILES}/sha256:{digest}").status_code == 404
    upload(client, b"content")
    assert body(client.get(f"{FILES}/sha256:{digest}")) == b"content"
