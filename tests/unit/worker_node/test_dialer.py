"""Which transport a conversation is held over, and when it falls back."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

from octaskly_wire.errors import BadProof, LinkLost
from octaskly_wire.messages import Refused
from octaskly_wire.vocabulary import RefusalCode
from worker_node.shell import tcp_dialer
from worker_node.shell.dialer import QUIC_REST_S, Dialer
from worker_node.shell.proving import DispatcherRefused


class Talks:
    """Conversations that go as the test says, and what they went over."""

    def __init__(self, choice: str) -> None:
        self.now_s = 100.0
        self.errors: dict[str, Exception] = {}
        self.tried: list[str] = []
        self.dialer = Dialer(choice, lambda: self.now_s)

    async def talk(self, connect) -> str:
        transport = "tcp" if connect is tcp_dialer.connect else "quic"
        self.tried.append(transport)
        if transport in self.errors:
            raise self.errors[transport]
        return transport

    def once(self) -> str:
        self.tried = []
        return asyncio.run(self.dialer.dial(self.talk))


@pytest.mark.parametrize("choice", ["tcp", "quic"])
def test_one_transport_is_one_try(choice):
    """Who names a transport gets that one, and what fails on it."""
    talks = Talks(choice)
    assert talks.once() == choice
    talks.errors[choice] = ConnectionRefusedError("closed")
    with pytest.raises(ConnectionRefusedError):
        talks.once()
    assert talks.tried == [choice]


@pytest.mark.parametrize("error", [TimeoutError(), OSError("no route"), BadProof("an impostor"), LinkLost("cut")])
def test_auto_falls_back_to_tcp_and_tries_quic_again_later(error, caplog):
    """One warning tells why; for a minute reconnects lose no time with QUIC, then it has another chance."""
    talks = Talks("auto")
    assert (talks.once(), talks.tried) == ("quic", ["quic"])
    talks.errors["quic"] = error
    assert (talks.once(), talks.tried) == ("tcp", ["quic", "tcp"])
    talks.now_s += QUIC_REST_S - 1
    assert (talks.once(), talks.tried) == ("tcp", ["tcp"])
    talks.now_s += 1
    assert (talks.once(), talks.tried) == ("tcp", ["quic", "tcp"])
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.event for record in warnings] == ["quic_failed"]
    assert (str(error) or "no answer in time") in warnings[0].getMessage()
    talks.now_s += QUIC_REST_S
    talks.errors = {}
    assert talks.once() == "quic"
    talks.errors["quic"] = error
    assert talks.once() == "tcp"
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2


def test_a_dispatcher_that_is_away_does_not_speak_against_quic(caplog):
    """While neither answers, nothing is known about QUIC: it stays the first, and the log is quiet."""
    talks = Talks("auto")
    talks.errors = {"quic": TimeoutError(), "tcp": ConnectionRefusedError("closed")}
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            talks.once()
        assert talks.tried == ["quic", "tcp"]
    assert caplog.records == []
    talks.errors = {}
    assert talks.once() == "quic"


def test_a_refusal_over_quic_is_the_dispatchers_word():
    """It proved who it is, so asking again over TCP would bring the same."""
    talks = Talks("auto")
    talks.errors["quic"] = DispatcherRefused(Refused(RefusalCode.REVOKED, "lost", is_final=True))
    with pytest.raises(DispatcherRefused):
        talks.once()
    assert talks.tried == ["quic"]


def test_without_aioquic_auto_is_tcp_and_says_so(monkeypatch, caplog):
    """Only who insists on QUIC cannot work without it."""
    monkeypatch.setitem(sys.modules, "octaskly_quic.dialing", None)
    talks = Talks("auto")
    assert (talks.once(), talks.tried) == ("tcp", ["tcp"])
    assert "only TCP is used" in caplog.text
    with pytest.raises(ImportError):
        Dialer("quic")


def test_a_worker_on_tcp_loads_no_aioquic():
    """So it runs where that cannot be installed."""
    code = "import sys, worker_node.__main__; sys.exit(any(name.split('.')[0] == 'aioquic' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
