"""Plays a server for a flow: each request meets the next answer of a script, and what was asked is kept."""

from __future__ import annotations

import json
from typing import Any

from octaskly.effects import Answer, Emit, Finished, Flow, NoAnswer, Pause, Read, Request, step
from octaskly.keeping import Login, MemoryKeeper
from octaskly.session import FOR_EVER, Session

URL = "http://server"


def answer(status: int = 200, body: Any = None, **headers: str) -> Answer:
    """Return an answer in JSON."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, b"" if body is None else json.dumps(body).encode())


def signed_in(**fields: Any) -> Session:
    """Return a session with tokens that last."""
    tokens = {"access": "access-1", "refresh": "refresh-1", "access_expires_at": FOR_EVER}
    return Session(MemoryKeeper(Login(url=URL, **{**tokens, **fields})))


class Played:
    """What happened when a flow met a script of answers, pieces and losses."""

    def __init__(self, flow: Flow[Any], *script: Answer | bytes | NoAnswer) -> None:
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.items: list[Any] = []
        self.left = list(script)
        effect = step(flow)
        while not isinstance(effect, Finished):
            if isinstance(effect, Emit):
                self.items.append(effect.item)
                effect = step(flow)
            elif isinstance(effect, Pause):
                self.pauses.append(effect.seconds)
                effect = step(flow)
            else:
                effect = self._answered(flow, effect)
        self.value = effect.value

    def _answered(self, flow: Flow[Any], effect: Request | Read) -> Any:
        if isinstance(effect, Request):
            self.requests.append(effect)
        assert self.left, f"nothing is left to answer {effect}"
        outcome = self.left.pop(0)
        return step(flow, error=outcome) if isinstance(outcome, NoAnswer) else step(flow, outcome)

    @property
    def asked(self) -> list[str]:
        """Return method and path of each request."""
        return [f"{request.method} {request.path}" for request in self.requests]
