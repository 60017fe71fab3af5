"""When the local worker is given a join token: as rarely as can be, and as often as it must."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from octaskly_site import options
from octaskly_site.local_worker import LocalWorker
from octaskly_wire import identity
from octaskly_wire.server_key import new_server_key
from worker_node.shell.keyfile import Identity, StateFolder
from workers_app.services import ClusterIdentity

NOW = datetime.now(UTC)
CA, CA_KEY = identity.make_ca("c1", NOW)
CLUSTER = ClusterIdentity("c1", CA, CA_KEY, new_server_key())


def default_options() -> options.DispatcherOptions:
    """Return the options of a bare `rundispatcher`."""
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return options.read_options(vars(parser.parse_args([])))


@pytest.mark.parametrize(
    ("cluster_id", "issued_at", "is_enrolled"),
    [("c1", NOW, True), ("c2", NOW, False), ("c1", NOW - timedelta(days=31), False)],
    ids=["this cluster", "another cluster", "expired"],
)
def test_an_enrolled_worker_needs_no_token(tmp_path, cluster_id, issued_at, is_enrolled) -> None:
    """Each token is a row and an entry of the audit: one a start would be many."""
    local = LocalWorker(replace(default_options(), db_path=tmp_path / "octaskly.db"), CLUSTER)
    assert not local._has_identity()
    with closing(StateFolder(tmp_path / "local-worker")) as folder:
        key = folder.load_or_make_key()
        leaf = identity.issue_worker_certificate(CA, CA_KEY, cluster_id, "w1", key.public_key(), issued_at)
        folder.save_identity(Identity("w1", cluster_id, leaf, (CA,), key))
    assert local._has_identity() is is_enrolled


def test_a_worker_that_knows_only_a_ca_of_before_enrols_anew(tmp_path) -> None:
    """Its identity is put away, for with it the join token would seem another cluster's."""
    local = LocalWorker(replace(default_options(), db_path=tmp_path / "octaskly.db"), CLUSTER)
    with closing(StateFolder(tmp_path / "local-worker")) as folder:
        key = folder.load_or_make_key()
        former, former_key = identity.make_ca("c1", NOW)
        leaf = identity.issue_worker_certificate(former, former_key, "c1", "w1", key.public_key(), NOW)
        folder.save_identity(Identity("w1", "c1", leaf, (former,), key))
        assert not local._has_identity()
        assert folder.load_identity() is None
