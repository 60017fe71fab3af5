"""The trail's keys, checkpoints, tombstones and contradictions on a real database, and the commands around them."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from audit_app import checkpoints, keys
from audit_app.chain import GENESIS_HASH, ROWS_A_KEY, legacy_row_hash
from audit_app.models import AuditEntry, AuditKeys, AuditTombstone
from audit_app.seal import WrongSeal
from audit_app.signed import Checkpoint
from audit_app.trail import AuditEvent, append_offline, record, stored_time_of
from audit_app.verifying import Key, verify
from octaskly_site import database_copy, restore
from octaskly_site.database_copy import CopyRefused

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(settings: Any, tmp_path: Path) -> Path:
    """The cluster's own file of checkpoints, in a folder of the test's own."""
    settings.OCTASKLY_AUDIT_CHECKPOINTS = str(tmp_path / "audit-checkpoints.jsonl")
    return checkpoints.default_file()


@pytest.fixture
def command(file: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs a management command and returns exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            call_command(*arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def write(count: int, at: datetime = NOW) -> None:
    """Append rows in one transaction."""
    with transaction.atomic():
        record(*(AuditEvent("tested", "me", details={"number": number}) for number in range(count)), at=at)


def execute(statement: str, *parameters: Any) -> None:
    """Run a statement that goes around the triggers, as somebody with the file can."""
    with connection.cursor() as cursor:
        for name in ("audit_log_no_update", "audit_log_no_delete"):
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
        cursor.execute(statement, parameters)


def take(file: Path, at: datetime = NOW) -> Checkpoint:
    """Take a checkpoint."""
    taken = checkpoints.take(file, at)
    assert taken is not None
    return taken


def test_the_key_turns_every_thousand_rows_whatever_a_transaction_holds() -> None:
    """Groups that begin, end and lie across a turn give one trail; the key kept is the present one only."""
    for count in (1, ROWS_A_KEY - 2, 3, 2 * ROWS_A_KEY, 1):
        write(count)
    end = keys.present_end()
    origin = keys.origin()
    assert end is not None
    assert origin is not None
    assert (end.key_index, end.key) == (3, origin.key_at(3))
    assert verify().findings == []
    execute("UPDATE audit_log SET actor = 'you' WHERE id = %s", 2 * ROWS_A_KEY + 7)
    assert verify().first_bad_id == 2 * ROWS_A_KEY + 7


def test_a_trail_from_before_goes_on(settings: Any) -> None:
    """Old rows verify with the constant key, also after the secret key was changed; new ones have keys of the ratchet."""
    last_hash = GENESIS_HASH
    for number in range(1, 6):
        moment = NOW.replace(microsecond=0 if number == 3 else 1200)
        hashed = (number, stored_time_of(moment), "tested", "me", "", "", "{}", last_hash)
        last_hash = legacy_row_hash(settings.OCTASKLY_AUDIT_KEY, hashed)
        execute("INSERT INTO audit_log VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", *hashed, last_hash)
    assert (verify().findings, verify().count) == ([], 5)
    assert not AuditKeys.objects.exists()
    write(3)
    assert (verify().findings, verify().count) == ([], 8)

    with transaction.atomic():
        assert keys.reseal(settings.OCTASKLY_AUDIT_SEALING_KEY, b"n" * 32) == 3
    with pytest.raises(WrongSeal):
        write(1)
    settings.OCTASKLY_AUDIT_KEY, settings.OCTASKLY_AUDIT_SEALING_KEY = b"other", b"n" * 32
    write(2)
    assert (verify().findings, verify().count) == ([], 10)
    execute("UPDATE audit_log SET timestamp = replace(timestamp, ' ', 'T') WHERE id = 3")
    assert verify().first_bad_id == 3


def test_a_changed_secret_key_takes_an_untouched_trail_along(settings: Any) -> None:
    """Where no row has been written since the ratchet came, it begins with the change."""
    with transaction.atomic():
        keys.reseal(settings.OCTASKLY_AUDIT_SEALING_KEY, b"n" * 32)
    settings.OCTASKLY_AUDIT_KEY, settings.OCTASKLY_AUDIT_SEALING_KEY = b"other", b"n" * 32
    write(1)
    assert verify().findings == []


def test_an_exported_key_is_gone_and_verifies(command: Command, tmp_path: Path, settings: Any) -> None:
    """After the export only the file verifies the trail, with or without the secret key; it is exported once."""
    write(ROWS_A_KEY + 5)
    path = tmp_path / "audit.key"
    sealed = bytes(AuditKeys.objects.get().sealed_origin)
    assert command("auditkey", "--export", str(path))[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bytes(AuditKeys.objects.get().sealed_origin) == b"" != sealed
    with pytest.raises(keys.KeyIsElsewhere):
        keys.origin()
    code, _, err = command("auditverify")
    assert (code, "--key FILE" in err) == (1, True)
    write(3)
    code, out, _ = command("auditverify", "--key", str(path))
    assert (code, f"intact: {ROWS_A_KEY + 9} rows" in out) == (0, True)
    assert "exported already" in command("auditkey", "--export", str(tmp_path / "again"))[2]
    assert not (tmp_path / "again").exists()
    settings.OCTASKLY_AUDIT_SEALING_KEY = b"another secret key"
    code, out, _ = command("auditverify", "--key", str(path))
    assert (code, "was not compared" in out) == (0, True)
    execute("UPDATE audit_log SET actor = 'you' WHERE id = 7")
    assert "row 7: it was changed" in command("auditverify", "--key", str(path))[2]
    (tmp_path / "none").write_text("{}")
    assert "holds no key" in command("auditverify", "--key", str(tmp_path / "none"))[2]


def test_an_exported_key_leaves_no_bytes_behind(tmp_path: Path, settings: Any) -> None:
    """In the database's file nothing is left of what held the key, nor of a present key that has turned."""
    write(1)
    path = tmp_path / "copy.db"
    row = AuditKeys.objects.get()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in filter(None, settings.SQLITE_INIT.split(";")):
            database.execute(statement)
        database.execute("CREATE TABLE audit_keys (id INTEGER PRIMARY KEY, sealed_end BLOB, sealed_origin BLOB)")
        database.execute("INSERT INTO audit_keys VALUES (1, ?, ?)", [row.sealed_end, row.sealed_origin])
        database.execute("UPDATE audit_keys SET sealed_end = ?, sealed_origin = ''", [b"x" * len(row.sealed_end)])
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    left = path.read_bytes()
    assert bytes(row.sealed_origin)[:16] not in left
    assert bytes(row.sealed_end)[:16] not in left


def test_checkpoints_come_by_rows_and_by_time(file: Path) -> None:
    """Every thousand rows, or ten minutes after the last when there are new ones; a torn line is passed over."""
    assert not checkpoints.is_due(None, NOW)
    write(1)
    assert checkpoints.is_due(None, NOW)
    first = take(file)
    assert checkpoints.take(file, NOW, first) is None
    assert not checkpoints.is_due(first, NOW + timedelta(hours=1))
    write(1)
    assert not checkpoints.is_due(first, NOW + timedelta(minutes=9))
    assert checkpoints.is_due(first, NOW + timedelta(minutes=11))
    write(checkpoints.EVERY_ROWS)
    assert checkpoints.is_due(first, NOW)
    with file.open("a") as opened:
        opened.write('{"row_id": 3, "he')
    second = take(file)
    assert checkpoints.read(file) == [first, second]
    assert checkpoints.newest(file) == second
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert verify().findings == []


def test_a_cut_trail_gets_no_checkpoint(file: Path) -> None:
    """Nothing is signed that the sealed end does not vouch for."""
    write(5)
    execute("DELETE FROM audit_log WHERE id = 5")
    assert checkpoints.take(file, NOW) is None
    assert "row" in verify().problem


def test_the_command_names_what_a_witness_contradicts(command: Command, file: Path, tmp_path: Path) -> None:
    """An older copy of everything is whole by itself; a witness tells, and so does it when lines were cut."""
    write(3)
    take(file)
    earlier = bytes(AuditKeys.objects.get().sealed_end)
    write(3)
    take(file)
    witness = tmp_path / "witness.jsonl"
    witness.write_text(file.read_text())
    assert command("auditverify", "--witness", str(witness))[0] == 0
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0])
    assert "lacks the checkpoint that witness.jsonl holds" in command("auditverify", "--witness", str(witness))[2]
    execute("DELETE FROM audit_log WHERE id > 3")
    assert "rows 4 to 6 are missing" in command("auditverify")[2]
    AuditKeys.objects.update(sealed_end=earlier)
    assert command("auditverify")[0] == 0
    code, _, err = command("auditverify", "--witness", str(witness))
    assert (code, "row 6" in err, "beyond the trail's end" in err) == (1, True, True)
    assert "cannot read" in command("auditverify", "--witness", str(tmp_path / "none"))[2]


def test_a_contradiction_is_recorded_once_a_keeper(file: Path) -> None:
    """Signed, and of a row that is missing or another; unsigned ones are an alarm too, what fits is none."""
    write(4)
    taken = take(file)
    assert checkpoints.examine(taken, "a worker", "w1") is None
    signing = keys.signing_key()
    assert signing is not None
    beyond = Checkpoint(900, "a" * 64, taken.taken_at).signed_with(signing)
    replaced = Checkpoint(2, "b" * 64, taken.taken_at).signed_with(signing)
    forged = Checkpoint(3, "c" * 64, taken.taken_at, taken.signature)
    for checkpoint, words in ((beyond, "beyond"), (replaced, "another hash"), (forged, "not signed")):
        found = checkpoints.examine(checkpoint, "a worker", "w1")
        assert found is not None
        assert (words in found.problem, found.is_new) == (True, True)
        again = checkpoints.examine(checkpoint, "a worker", "w1")
        assert again is not None
        assert not again.is_new
        assert checkpoints.examine(checkpoint, "a worker", "w2") is not None
    assert AuditEntry.objects.filter(event_type="audit_contradicted").count() == 6
    assert verify().findings == []


def test_a_restored_backup_tells_of_itself_and_explains(file: Path, settings: Any, tmp_path: Path) -> None:
    """Its row is in the database before that is in its place; what came later is explained by it."""
    write(3)
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(backup)) as database:
        _copy_tables(database)
    lost = [(write(5), take(file))[1] for _ in range(2)]
    restore._record(backup, backup, settings.OCTASKLY_AUDIT_SEALING_KEY, datetime.now(UTC))
    with closing(sqlite3.connect(backup)) as database:
        rows = database.execute("SELECT * FROM audit_log ORDER BY id").fetchall()
        sealed = database.execute("SELECT sealed_end FROM audit_keys").fetchone()[0]
    execute("DELETE FROM audit_log")
    for row in rows:
        execute("INSERT INTO audit_log VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", *row)
    AuditKeys.objects.update(sealed_end=sealed)
    assert json.loads(rows[-1][6]) == {"backup": "backup.db", "row": 3}
    report = verify()
    assert (report.findings, report.count) == ([], 4)
    assert any("a restored backup replaced" in note for note in report.notes)
    found = checkpoints.examine(lost[-1], "a worker", "w1")
    assert found is not None
    assert "restored at row 4 explains it" in found.problem
    with pytest.raises(CopyRefused):
        restore._record(backup, backup, b"another secret key", datetime.now(UTC))
    database_copy.flush(backup)


def _copy_tables(database: sqlite3.Connection) -> None:
    """Copy what restoring needs, out of a transaction that nobody else sees."""
    ours = connection.connection
    for name in ("audit_log", "audit_keys"):
        database.execute(*ours.execute("SELECT sql FROM sqlite_master WHERE name = ?", [name]).fetchone())
        columns = [f"+{column[1]}" for column in ours.execute(f"PRAGMA table_info({name})")]
        rows = ours.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall()
        database.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)
    database.commit()


def test_appending_offline_needs_a_begun_trail(tmp_path: Path) -> None:
    """Where there is none, nothing is written."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as database:
        database.execute("CREATE TABLE audit_keys (sealed_end BLOB)")
        database.execute("CREATE TABLE audit_log (id INTEGER)")
        append_offline(database, b"k", AuditEvent("tested"), NOW)
        assert database.execute("SELECT count(*) FROM audit_log").fetchone() == (0,)


def test_old_rows_are_pruned_up_to_a_checkpoint(command: Command, file: Path) -> None:
    """They go, a tombstone and a row tell of it, the rest verifies, and triggers keep everything else."""
    old = NOW - timedelta(days=90)
    assert "nothing was ever recorded" in command("auditprune", "--keep-days", "30", "--yes")[2]
    write(7, old)
    assert "has no checkpoint" in command("auditprune", "--keep-days", "30", "--yes")[2]
    take(file, old)
    write(3, old)
    write(2)
    take(file)
    assert "no row is from before" in command("auditprune", "--before", "2001-01-01", "--yes")[2]
    code, out, err = command("auditprune", "--keep-days", "30", "--yes")
    assert (code, "7 rows of the audit, 1 to 7" in out) == (0, True), err
    assert list(AuditEntry.objects.order_by("id").values_list("id", flat=True)) == [8, 9, 10, 11, 12, 13]
    code, out, _ = command("auditverify")
    assert (code, "rows 1 to 7 were removed" in out, "1 are of removed rows" in out) == (0, True, False)
    for statement in (
        "DELETE FROM audit_log", "UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_tombstones",
        "UPDATE audit_tombstones SET last_id = 12",
    ):  # fmt: skip
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    # The next one begins where the last one ended, and may take the row of the last one along.
    write(1)
    take(file)
    assert command("auditprune", "--before", f"{NOW + timedelta(days=1):%Y-%m-%d}", "--yes")[0] == 0
    assert [(stone.first_id, stone.last_id) for stone in AuditTombstone.objects.all()] == [(1, 7), (8, 14)]
    assert command("auditverify")[0] == 0
    assert AuditEntry.objects.get(event_type="audit_pruned").actor == "operator"


def test_a_broken_trail_is_not_pruned_and_a_forged_tombstone_is_found(command: Command, file: Path) -> None:
    """Whoever inserts a tombstone can remove rows, but not sign it."""
    old = NOW - timedelta(days=90)
    write(6, old)
    taken = take(file, old)
    write(2)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_tombstones VALUES (1, 6, 6, %s, 'operator', %s, %s)",
            [taken.head, taken.taken_at, taken.signature],
        )
        cursor.execute("DELETE FROM audit_log WHERE id <= 6")
    assert "not signed by this trail's key" in command("auditverify")[2]
    code, _, err = command("auditprune", "--keep-days", "30", "--yes")
    assert (code, "broken at row 1" in err) == (1, True)


def test_pruning_asks(command: Command, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes, and a no keeps everything."""
    write(3, NOW - timedelta(days=2))
    take(file)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert "not agreed to" in command("auditprune", "--keep-days", "1")[2]
    assert AuditEntry.objects.count() == 3


def test_the_key_file_is_the_key(command: Command, tmp_path: Path) -> None:
    """What is read from the file is what was written to it."""
    write(2)
    before = keys.origin()
    command("auditkey", "--export", str(tmp_path / "key"))
    assert Key.of_file(tmp_path / "key").origin == before
