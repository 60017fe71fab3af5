"""One connection to the REST interface that is kept, with nothing on top of the standard library: the client's own cost is small."""

from __future__ import annotations

import http.client
import json
from typing import Any, Self


class Line:
    """Asks one request after another."""

    def __init__(self, host: str, authorization: str) -> None:
        """Take `address:port`, and the header that signs in."""
        self._connection = http.client.HTTPConnection(host, timeout=60)
        self._headers = {"Authorization": authorization, "Content-Type": "application/json"}

    def __enter__(self) -> Self:
        self._connection.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self, path: str, body: bytes) -> bytes:
        """Return the body of the answer; raises RuntimeError when it is a refusal."""
        self._connection.request("POST", path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path}: {answer.status} {content[:300]!r}")
        return content

    def post_json(self, path: str, body: Any) -> Any:
        """Return what the answer says."""
        return json.loads(self.post(path, json.dumps(body).encode()))
