"""A small trail with all that speaks of it, and everything that somebody without its keys can do to it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit_app.chain import GENESIS_HASH, End, Origin, Row, begun, legacy_row_hash
from audit_app.inspection import Evidence, Report, Trail, inspect
from audit_app.signed import Checkpoint, Tombstone

ROWS_A_KEY = 8
LEGACY_ROWS = 7
EVERY_ROWS = 5
"""Between two checkpoints."""
TAKEN_AT = "2026-02-03T04:05:06.000000+00:00"

SIGNING = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC = SIGNING.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@dataclass
class Scene:
    """The database, and the cluster's own file of checkpoints beside it; whoever attacks may write both."""

    rows: list[Row]
    end: End
    file: list[Checkpoint]
    tombstones: list[Tombstone]

    def copy(self) -> Scene:
        """Return one to spoil."""
        return Scene(list(self.rows), self.end, list(self.file), list(self.tombstones))

    def inspected(self, origin: Origin, *witnesses: list[Checkpoint]) -> Report:
        """Return what an inspection finds."""
        trail = Trail([self.rows], self.tombstones, self.end)
        kept = [Evidence("a witness", witness) for witness in witnesses]
        return inspect(trail, origin, PUBLIC, Evidence("the file", self.file), kept)


def body(number: int, event_type: str = "tested", details: str = "{}") -> Row:
    """Return the columns of a row between its id and its hashes."""
    return (f"2026-01-01 00:00:{number % 60:02}.000100", event_type, "anna", f"w{number}", f"t{number}", details)


def signed(row: Row) -> Checkpoint:
    """Return the checkpoint of a row."""
    return Checkpoint(row[0], row[8], TAKEN_AT).signed_with(SIGNING)


class History:
    """The scene after each row, as copies that somebody may have kept; the last one is the present."""

    def __init__(self, count: int) -> None:
        rows: list[Row] = []
        last_hash = GENESIS_HASH
        for number in range(1, LEGACY_ROWS + 1):
            hashed = (number, *body(number), last_hash)
            last_hash = legacy_row_hash(b"legacy", hashed)
            rows.append((*hashed, last_hash))
        self.origin, end = begun(b"k" * 32, LEGACY_ROWS, last_hash, b"legacy", ROWS_A_KEY)
        self.scenes = [Scene(rows, end, [], [])]
        for number in range(LEGACY_ROWS + 1, count + 1):
            self.append(body(number))

    @property
    def present(self) -> Scene:
        """Return the newest scene."""
        return self.scenes[-1]

    def append(self, *bodies: Row) -> None:
        """Go on by rows that come in one transaction."""
        scene = self.present.copy()
        rows, scene.end = scene.end.extended(bodies)
        scene.rows += rows
        scene.file += [signed(row) for row in rows if row[0] % EVERY_ROWS == 0]
        self.scenes.append(scene)

    def prune(self, last_id: int) -> None:
        """Remove old rows by right."""
        scene = self.present.copy()
        first_id = scene.tombstones[-1].last_id + 1 if scene.tombstones else 1
        [last] = [row for row in scene.rows if row[0] == last_id]
        stone = Tombstone(first_id, last_id, last_id - first_id + 1, last[8], "operator", TAKEN_AT)
        scene.tombstones.append(stone.signed_with(SIGNING))
        scene.rows = [row for row in scene.rows if row[0] > last_id]
        told = f'{{"first_row":{first_id},"last_row":{last_id},"head":"{last[8]}"}}'
        rows, scene.end = scene.end.extended([body(0, "audit_pruned", told)])
        scene.rows += rows
        self.scenes.append(scene)


def _edit_column(scene: Scene, chance: random.Random, _: History) -> None:
    place, column = chance.randrange(len(scene.rows)), chance.randrange(9)
    row = list(scene.rows[place])
    old = row[column]
    if column == 0:
        row[0] = old + chance.choice([-40, -1, 1, 40])
    else:
        where = chance.randrange(len(old) + 1)
        row[column] = chance.choice(
            [f"{old[:where]}x{old[where:]}", old.encode(), None, 7, "", old[1:] if old else "y", old.upper() + " "]
        )
        if row[column] == old:
            row[column] = None
    scene.rows[place] = tuple(row)
    scene.rows.sort(key=lambda one: one[0])


def _delete(scene: Scene, chance: random.Random, _: History) -> None:
    first = chance.randrange(len(scene.rows))
    del scene.rows[first : first + chance.randint(1, 5)]


def _swap(scene: Scene, chance: random.Random, _: History) -> None:
    one, other = chance.sample(range(len(scene.rows)), 2)
    rows = scene.rows
    rows[one], rows[other] = (rows[one][0], *rows[other][1:]), (rows[other][0], *rows[one][1:])


def _insert(scene: Scene, chance: random.Random, _: History) -> None:
    """Put a row somewhere, and move all behind it by one."""
    place = chance.randrange(len(scene.rows) + 1)
    before = scene.rows[place - 1] if place else (scene.rows[0][0] - 1, *[GENESIS_HASH] * 8)
    forged = (before[0] + 1, *chance.choice(scene.rows)[1:7], before[8], chance.randbytes(32).hex())
    scene.rows[place:] = [forged, *((row[0] + 1, *row[1:]) for row in scene.rows[place:])]


def _truncate(scene: Scene, chance: random.Random, _: History) -> None:
    del scene.rows[-chance.randint(1, len(scene.rows)) :]


def _roll_back(scene: Scene, chance: random.Random, history: History) -> None:
    """Put an earlier copy of everything back, the file of checkpoints too: only witnesses know better."""
    last_witnessed = history.present.file[-1].row_id
    earlier = [one for one in history.scenes if one.end.last_id < last_witnessed]
    chosen = chance.choice(earlier).copy()
    scene.rows, scene.end, scene.file, scene.tombstones = chosen.rows, chosen.end, chosen.file, chosen.tombstones
    if chance.random() < 0.5:
        scene.file = list(history.present.file)


def _roll_back_the_seal(scene: Scene, chance: random.Random, history: History) -> None:
    """Cut the trail, and put back the sealed end that fits."""
    chosen = chance.choice([one for one in history.scenes if one.end.last_id < history.present.file[-1].row_id])
    scene.end = chosen.end
    if chance.random() < 0.8:
        scene.rows = [row for row in scene.rows if row[0] <= chosen.end.last_id]


def _go_on_without_key(scene: Scene, chance: random.Random, _: History) -> None:
    """Rewrite everything behind a row with a key of one's own."""
    place = chance.randrange(1, len(scene.rows))
    before = scene.rows[place - 1]
    own = End(before[0] + 1, 0, chance.randbytes(32), before[0], before[8], ROWS_A_KEY)
    bodies = [row[1:7] for row in scene.rows[place:]]
    bodies[0] = body(99)
    scene.rows[place:] = own.extended(bodies)[0]


def _cut_the_file(scene: Scene, chance: random.Random, _: History) -> None:
    first = chance.randrange(len(scene.file))
    del scene.file[first : first + chance.randint(1, len(scene.file))]


def _edit_the_file(scene: Scene, chance: random.Random, _: History) -> None:
    place = chance.randrange(len(scene.file))
    changes = [
        {"row_id": scene.file[place].row_id + chance.choice([-1, 1])},
        {"head": chance.randbytes(32).hex()},
        {"taken_at": "2020-01-01T00:00:00.000000+00:00"},
        {"signature": chance.randbytes(64).hex()},
    ]
    scene.file[place] = dataclasses.replace(scene.file[place], **chance.choice(changes))


def _forge_a_tombstone(scene: Scene, chance: random.Random, history: History) -> None:
    """Remove rows, and say with a signature of other things that this was right."""
    place = chance.randrange(len(scene.rows))
    last = scene.rows[place]
    first_id = scene.tombstones[-1].last_id + 1 if scene.tombstones else 1
    signatures = [stone.signature for stone in history.present.tombstones]
    signatures += [one.signature for one in scene.file] + [chance.randbytes(64).hex()]
    forged = Tombstone(
        first_id, last[0], last[0] - first_id + 1, last[8], "operator", TAKEN_AT, chance.choice(signatures)
    )
    scene.rows = scene.rows[place + 1 :]
    scene.tombstones.append(forged)


def _change_a_tombstone(scene: Scene, chance: random.Random, _: History) -> None:
    stone = scene.tombstones[-1]
    if chance.random() < 0.2:
        del scene.tombstones[chance.randrange(len(scene.tombstones))]
        return
    changes = [
        {"last_id": stone.last_id + 1}, {"first_id": stone.first_id + 1}, {"row_count": stone.row_count - 1},
        {"head": chance.randbytes(32).hex()}, {"removed_by": "nobody"},
        {"removed_at": "2020-01-01T00:00:00.000000+00:00"}, {"signature": chance.randbytes(64).hex()},
    ]  # fmt: skip
    scene.tombstones[-1] = dataclasses.replace(stone, **chance.choice(changes))
    if chance.random() < 0.5:
        del scene.rows[0]


FORGERIES: list[Callable[[Scene, random.Random, History], None]] = [
    _edit_column, _delete, _swap, _insert, _truncate, _roll_back, _roll_back_the_seal, _go_on_without_key, _cut_the_file,
    _edit_the_file, _forge_a_tombstone, _change_a_tombstone,
]  # fmt: skip
