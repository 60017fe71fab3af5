"""Reads JSON bodies strictly: bounded in size and depth, no key twice, no NaN, no half characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import msgspec
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

from accounts_app.rest.json_shape import BadShape, check_shape
from accounts_app.rest.problems import Problem


class JsonBody(BaseParser):
    """The one parser of the REST interface."""

    media_type = "application/json"
    renderer_class = JSONRenderer
    """What the browsable API fills its raw-data form with."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the decoded body; an empty one is an empty object."""
        # REST framework reads the stream itself, past Django's own check of this limit.
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1) if limit is not None else stream.read()
        if limit is not None and len(body) > limit:
            raise Problem(413, detail=f"the body is larger than {limit} bytes")
        if not body:
            return {}
        try:
            check_shape(body)
            return msgspec.json.decode(body)
        except BadShape as error:
            raise ParseError(f"the body {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ParseError(f"the body is not JSON: {error}") from error
