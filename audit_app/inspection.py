"""Compares the trail with everything that speaks of it: its keys, its sealed end, tombstones, checkpoints. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hmac import digest
from typing import Any, Final

from audit_app.chain import GENESIS_HASH, End, Origin, Row, encoded, legacy_row_hash, next_key
from audit_app.signed import Checkpoint, Tombstone, is_signed

PRUNED: Final = "audit_pruned"
RESTORED: Final = "database_restored"
"""Types of rows that explain what else would be an alarm."""
SEVERAL: Final = 3
"""Of the same kind told one by one; the rest as a number."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and with which row."""

    row_id: int
    problem: str


@dataclass(frozen=True, slots=True)
class Restore:
    """A restored backup: the row that says so, and when; what came before that time may be lost from that row on."""

    row_id: int
    restored_at: str

    def explains(self, checkpoint: Checkpoint) -> bool:
        """Return whether the checkpoint is of the trail that the backup took the place of."""
        return checkpoint.row_id >= self.row_id and checkpoint.moment <= datetime.fromisoformat(self.restored_at)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Checkpoints, and who kept them."""

    keeper: str
    checkpoints: Sequence[Checkpoint]


@dataclass(frozen=True, slots=True)
class Trail:
    """What stands in the database."""

    rows: Iterable[Sequence[Row]]
    """In batches, all of them, in the order of their ids."""
    tombstones: Sequence[Tombstone]
    end: End | None
    """None when the seal cannot be opened here, for the secret key is elsewhere."""


@dataclass(slots=True)
class Report:
    """What an inspection found."""

    count: int = 0
    last_id: int = 0
    pruned_to: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    restores: list[Restore] = field(default_factory=list)

    @property
    def first_bad_id(self) -> int | None:
        """Return the row of the first finding, None where all is well."""
        return self.findings[0].row_id if self.findings else None

    @property
    def problem(self) -> str:
        """Return the first finding's text; empty where all is well."""
        return self.findings[0].problem if self.findings else ""


def inspect(
    trail: Trail, origin: Origin, public_key: bytes, own: Evidence | None = None, witnesses: Sequence[Evidence] = ()
) -> Report:
    """Return everything that does not fit. `own` are the checkpoints that the cluster itself has kept."""
    report = Report()
    start_hash = _inspect_tombstones(trail.tombstones, public_key, report)
    if report.findings:
        return report
    kept = [*([own] if own else []), *witnesses]
    wanted = {checkpoint.row_id for evidence in kept for checkpoint in evidence.checkpoints}
    walk = _Walk(origin, report.pruned_to, start_hash, wanted)
    for batch in trail.rows:
        if finding := walk.take(batch):
            report.findings.append(finding)
            break
    is_whole = not report.findings
    report.count, report.last_id = walk.count, walk.last_id
    _inspect_explanations(walk, trail.tombstones, report, is_whole=is_whole)
    if is_whole and trail.end:
        _inspect_end(trail.end, origin, walk, report)
    for evidence in kept:
        _inspect_evidence(evidence, walk, public_key, report, is_whole=is_whole)
    if own:
        for evidence in witnesses:
            _find_missing(own, evidence, report)
    return report


class _Walk:
    """Goes over the rows in order and keeps what the rest of the inspection asks for."""

    def __init__(self, origin: Origin, last_id: int, last_hash: str, wanted: set[int]) -> None:
        self._origin = origin
        self._wanted = wanted
        self._turn_id = origin.first_id
        self._key = b""
        self.last_id = last_id
        self.last_hash = last_hash
        self.count = 0
        self.heads: dict[Any, Any] = {last_id: last_hash} if last_id else {}
        self.told: list[Row] = []
        if last_id >= origin.first_id:
            index = origin.index_of(last_id)
            self._key = origin.key_at(index)
            self._turn_id = origin.first_id + (index + 1) * origin.rows_a_key

    def take(self, rows: Sequence[Row]) -> Finding | None:
        """Walk over more rows; return what is wrong with the first one that does not fit."""
        # This loop sees every row there is: names are local, and nothing is called that need not be.
        wanted, heads, key, turn_id = self._wanted, self.heads, self._key, self._turn_id
        last_id, last_hash = self.last_id, self.last_hash
        finding = None
        for row in rows:
            row_id = row[0]
            if row_id != last_id + 1 or row[7] != last_hash:
                finding = _out_of_order(row, last_id)
                break
            if row_id >= turn_id:
                key = next_key(key) if key else self._origin.key
                turn_id += self._origin.rows_a_key
            expected = digest(key, encoded(row[:8]), "sha256").hex() if key else self._legacy_hash(row)
            if row[8] != expected:
                finding = Finding(row_id, "it was changed")
                break
            last_id, last_hash = row_id, expected
            if row_id in wanted:
                heads[row_id] = expected
            if row[2] in {PRUNED, RESTORED}:
                self.told.append(row)
        self.count += last_id - self.last_id
        self.last_id, self.last_hash, self._key, self._turn_id = last_id, last_hash, key, turn_id
        return finding

    def _legacy_hash(self, row: Row) -> str:
        try:
            return legacy_row_hash(self._origin.legacy_key, row[:8])
        except (ValueError, TypeError):
            return ""


def _out_of_order(row: Row, last_id: int) -> Finding:
    row_id = row[0]
    if not isinstance(row_id, int):
        return Finding(last_id + 1, f"behind row {last_id} stands one whose id is no number")
    if row_id <= last_id:
        return Finding(row_id, f"it stands where no row belongs: the trail goes on behind row {last_id}")
    if row_id != last_id + 1:
        missing = f"row {last_id + 1} is missing" if row_id == last_id + 2 else f"rows {last_id + 1} to {row_id - 1} are missing"  # fmt: skip
        return Finding(row_id, missing)
    return Finding(row_id, "it does not follow the row before")


def _inspect_tombstones(tombstones: Sequence[Tombstone], public_key: bytes, report: Report) -> str:
    """Return the hash that the first row must follow."""
    last_hash = GENESIS_HASH
    for tombstone in tombstones:
        first_id, last_id = tombstone.first_id, tombstone.last_id
        name = f"the tombstone of rows {first_id} to {last_id}"
        if not is_signed(tombstone, public_key):
            report.findings.append(Finding(first_id, f"{name} is not signed by this trail's key"))
        elif first_id != report.pruned_to + 1 or last_id < first_id or tombstone.row_count != last_id - first_id + 1:
            report.findings.append(Finding(first_id, f"{name} does not follow what was removed before"))
        else:
            report.pruned_to, last_hash = last_id, tombstone.head
            report.notes.append(
                f"rows {first_id} to {last_id} were removed on {tombstone.removed_at[:10]} by {tombstone.removed_by}"
            )
            continue
        break
    return last_hash


def _inspect_explanations(walk: _Walk, tombstones: Sequence[Tombstone], report: Report, *, is_whole: bool) -> None:
    """Read the rows that tell of restores and removals; each removal's row and tombstone need each other."""
    told: set[tuple[Any, ...]] = set()
    restores: dict[int, str] = {}
    for row in walk.told:
        details = json.loads(row[6])
        if row[2] == RESTORED:
            restores[row[0]] = datetime.fromisoformat(row[1]).replace(tzinfo=UTC).isoformat()
        else:
            removed = (details.get("first_row"), details.get("last_row"), details.get("head"))
            told.add(removed)
            restores |= dict(details.get("restores", []))
            if removed not in {(one.first_id, one.last_id, one.head) for one in tombstones}:
                report.findings.append(Finding(row[0], "it tells of a removal that has no tombstone"))
    report.restores = [Restore(row_id, restored_at) for row_id, restored_at in sorted(restores.items())]
    if not is_whole or not tombstones:
        return
    # Rows of earlier removals may have been removed themselves; that of the last one cannot be.
    last = tombstones[-1]
    if (last.first_id, last.last_id, last.head) not in told:
        problem = f"the tombstone of rows {last.first_id} to {last.last_id} has no row that tells of the removal"
        report.findings.append(Finding(last.first_id, problem))


def _inspect_end(end: End, origin: Origin, walk: _Walk, report: Report) -> None:
    if end.first_id != origin.first_id or end.key != origin.key_at(end.key_index):
        report.findings.append(Finding(origin.first_id, "the trail's present key does not come from its first one"))
    elif end.last_id > walk.last_id:
        missing = f"rows {walk.last_id + 1} to {end.last_id} are missing at the trail's end"
        report.findings.append(Finding(walk.last_id + 1, missing))
    elif end.last_id < walk.last_id:
        problem = f"the trail's sealed end is row {end.last_id}: its keys are from an older copy of the database"
        report.findings.append(Finding(end.last_id + 1, problem))
    elif end.last_hash != walk.last_hash:
        report.findings.append(Finding(end.last_id, "it is not the row that the trail's sealed end names"))


def contradiction(checkpoint: Checkpoint, head: str | None, last_id: int, keeper: str) -> str:
    """Return what is wrong between a signed checkpoint and the trail, whose row has this hash; empty when nothing is."""
    name = f"the checkpoint of row {checkpoint.row_id} ({checkpoint.taken_at}, {keeper})"
    if head is None:
        return f"{name} is beyond the trail's end, row {last_id}: rows were cut off, or the database is an older copy"
    return "" if checkpoint.head == head else f"{name} names another hash: the row was replaced"


def not_signed(checkpoint: Checkpoint, keeper: str) -> str:
    """Return what is wrong with a checkpoint that the trail's key did not sign."""
    name = f"the checkpoint of row {checkpoint.row_id} ({keeper})"
    return f"{name} is not signed by this trail's key: it is forged, or of a database that stood here before"


def _inspect_evidence(evidence: Evidence, walk: _Walk, public_key: bytes, report: Report, *, is_whole: bool) -> None:
    fitting = covered = unknown = 0
    explained: list[int] = []
    for checkpoint in evidence.checkpoints:
        row_id = checkpoint.row_id
        if not is_signed(checkpoint, public_key):
            report.findings.append(Finding(row_id, not_signed(checkpoint, evidence.keeper)))
        elif row_id < report.pruned_to:
            covered += 1
        elif row_id > walk.last_id and not is_whole:
            unknown += 1
        elif not (problem := contradiction(checkpoint, walk.heads.get(row_id), walk.last_id, evidence.keeper)):
            fitting += 1
        elif any(restore.explains(checkpoint) for restore in report.restores):
            explained.append(row_id)
        else:
            report.findings.append(Finding(row_id, problem))
    told = [f"{fitting} fit"]
    told += [f"{covered} are of removed rows"] if covered else []
    told += [f"{unknown} are of rows behind the bad one"] if unknown else []
    report.notes.append(f"checkpoints ({evidence.keeper}): {', '.join(told)}")
    if explained:
        restores = ", ".join(str(restore.row_id) for restore in report.restores)
        report.notes.append(
            f"checkpoints ({evidence.keeper}): {len(explained)}, of rows {min(explained)} to {max(explained)}, are of a"
            f" database that a restored backup replaced; that stands in row {restores}"
        )


def _find_missing(own: Evidence, witness: Evidence, report: Report) -> None:
    """Find what a witness was given and the cluster itself does not show any more."""
    known = {(checkpoint.row_id, checkpoint.head) for checkpoint in own.checkpoints}
    missing = [one for one in witness.checkpoints if (one.row_id, one.head) not in known]
    for checkpoint in missing[:SEVERAL]:
        problem = f"{own.keeper} lacks the checkpoint that {witness.keeper} holds: lines were removed there"
        report.findings.append(Finding(checkpoint.row_id, problem))
    if len(missing) > SEVERAL:
        report.notes.append(f"{own.keeper} lacks {len(missing)} checkpoints of {witness.keeper}")
