"""Whatever is done to a trail without its keys is found, and nothing is found where nothing was done."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from audit_app.chain import End
from audit_app.signed import Checkpoint
from tests.support.forgeries import FORGERIES, ROWS_A_KEY, SIGNING, History, body, signed

COUNT = 41


@pytest.fixture(scope="module")
def history() -> History:
    """A trail from before the ratchet, gone on with it for several keys, pruned twice, and gone on."""
    made = History(COUNT)
    made.prune(5)
    made.append(body(1), body(2), body(3))
    made.prune(15)
    for number in range(16):
        made.append(body(number))
    return made


def test_what_nobody_touched_is_whole(history: History) -> None:
    """Every scene of the history, with and without witnesses, with one key and with several."""
    for scene in history.scenes:
        report = scene.inspected(history.origin, scene.file)
        assert (report.findings, report.count) == ([], len(scene.rows))


def spoil(history: History, seed: int, count: int) -> Counter[str]:
    """Spoil the present that often, and return how often each way; every time it must be found."""
    chance, done = random.Random(seed), Counter()
    witness = list(history.present.file)
    for number in range(count):
        forgery = FORGERIES[number % len(FORGERIES)]
        scene = history.present.copy()
        forgery(scene, chance, history)
        if chance.random() < 0.1:
            chance.choice(FORGERIES[:5])(scene, chance, history) if len(scene.rows) > 5 else None
        report = scene.inspected(history.origin, witness)
        assert report.findings, f"{forgery.__name__}, number {number} of seed {seed}"
        assert report.problem
        done[forgery.__name__] += 1
    return done


def test_forgeries_are_found(history: History) -> None:
    """Edits of any column, rows that go, come, or change places, cuts, older copies, forged tombstones: a thousand."""
    assert len(spoil(history, 1, 1_200)) == len(FORGERIES)


@pytest.mark.slow
def test_ten_thousand_forgeries_are_found(history: History) -> None:
    """The same, ten thousand times."""
    assert spoil(history, 2, 12_000).total() == 12_000


def test_only_older_copies_need_a_witness(history: History) -> None:
    """Without one, everything else is found all the same."""
    chance, unseen = random.Random(3), set()
    for number in range(600):
        forgery = FORGERIES[number % len(FORGERIES)]
        scene = history.present.copy()
        forgery(scene, chance, history)
        if not scene.inspected(history.origin).findings:
            unseen.add(forgery.__name__)
    assert unseen == {"_roll_back", "_cut_the_file"}


def test_a_cut_end_is_found_without_any_checkpoint(history: History) -> None:
    """The sealed end knows the last row, so that not even one row can be cut off."""
    scene = history.present.copy()
    del scene.rows[-1]
    scene.file = []
    report = scene.inspected(history.origin)
    assert "missing at the trail's end" in report.problem


def test_who_took_the_present_key_cannot_rewrite_the_past(history: History) -> None:
    """With the sealed end open, and the key of signatures: rows of earlier keys still do not yield, and witnesses know."""
    present, origin = history.present, history.origin
    witness = list(present.file)
    key, index = present.end.key, present.end.key_index
    first_of_key = origin.first_id + index * ROWS_A_KEY
    place = next(number for number, row in enumerate(present.rows) if row[0] == first_of_key - 3)
    before = present.rows[place - 1]

    def rewritten(first_place: int, end: End) -> list[Checkpoint]:
        scene = present.copy()
        bodies = [row[1:7] for row in scene.rows[first_place:]]
        bodies[0] = body(77)
        rows, scene.end = end.extended(bodies)
        scene.rows[first_place:] = rows
        scene.file = [signed(row) for row in scene.rows if row[0] % 5 == 0]
        found.append(scene)
        return scene.file

    found = []
    rewritten(place, End(origin.first_id, index, key, before[0], before[8], ROWS_A_KEY))
    report = found[0].inspected(origin)
    assert (report.first_bad_id, report.problem) == (first_of_key - 3, "it was changed")

    # Rows of the present key can be rewritten by whoever has it. What was witnessed of them cannot.
    place = next(number for number, row in enumerate(present.rows) if row[0] == first_of_key)
    before = present.rows[place - 1]
    own = rewritten(place, End(origin.first_id, index, key, before[0], before[8], ROWS_A_KEY))
    assert any(one.row_id >= first_of_key for one in own)
    assert found[1].inspected(origin).findings == []
    report = found[1].inspected(origin, witness)
    assert "names another hash" in report.problem
    assert report.first_bad_id is not None
    assert report.first_bad_id >= first_of_key


def test_a_restored_backup_explains_what_came_after_it(history: History) -> None:
    """Its row in the trail speaks for checkpoints of rows behind it and of before its time, and for no others."""
    early = next(scene for scene in history.scenes if scene.end.last_id == 31)
    witness = list(history.present.file)
    restored = early.copy()
    restored.file = list(witness)
    assert restored.inspected(history.origin, witness).findings
    rows, restored.end = restored.end.extended([("2026-03-01 00:00:00", "database_restored", "operator", "", "", "{}")])
    restored.rows += rows
    report = restored.inspected(history.origin, witness)
    assert report.findings == []
    assert any("a restored backup replaced" in note for note in report.notes)
    later = Checkpoint(40, "0" * 64, "2026-04-01T00:00:00.000000+00:00").signed_with(SIGNING)
    assert restored.inspected(history.origin, [*witness, later]).findings
