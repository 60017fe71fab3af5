"""Reads and checks what a client submits. Pure: bytes in, specifications or one clear error out."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from accounts_app.rest.json_shape import BadShape, check_shape
from octaskly_wire.limits import MAX_COMMAND_BYTES
from octaskly_wire.vocabulary import SandboxLevel
from tasks_app.asked_files import NotAllowed, check_inputs, check_outputs

MAX_TASKS: Final = 10_000
MAX_INPUTS_IN_ALL: Final = 100_000
"""Of all tasks of one request: each is a row, and a transaction with millions of them would hold up everybody."""
MAX_ENV_BYTES: Final = 64 << 10
MAX_BODY_BYTES: Final = 32 << 20
"""A list of 10,000 ordinary tasks fits."""
MAX_SINGLE_BODY_BYTES: Final = 1 << 20
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_RESERVED_PREFIX: Final = "OCTASKLY_"

Megabytes = Annotated[int, Meta(ge=1, le=1 << 24)]


class InvalidSubmission(Exception):
    """The body is not what the contract says; `field` names the place, empty for the whole."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class LimitsSpec(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Resource limits of one attempt; what is left out is the worker's default."""

    memory_mb: Megabytes | None = None
    cpu_seconds: Annotated[int, Meta(ge=1, le=86_400 * 366)] | None = None
    processes: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    open_files: Annotated[int, Meta(ge=8, le=1 << 20)] | None = None
    disk_mb: Megabytes | None = None


class TaskSpec(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A task as a client asks for it."""

    command: Annotated[str, Meta(min_length=1)]
    name: Annotated[str, Meta(max_length=255)] = ""
    env: dict[str, str] = {}
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    timeout: Annotated[int, Meta(ge=1, le=86_400)] = 3600
    max_retries: Annotated[int, Meta(ge=0, le=10)] = 0
    sandbox: SandboxLevel | None = None
    network: bool = False
    limits: LimitsSpec = LimitsSpec()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


_SINGLE: Final = msgspec.json.Decoder(TaskSpec)
_LIST: Final = msgspec.json.Decoder(list[TaskSpec])
_AT: Final = re.compile(r"^(?P<message>.*) - at `(?P<path>.*)`$", re.DOTALL)
_PLAIN_WORDS: Final = {
    "`int`": "a whole number",
    "`str`": "text",
    "`bool`": "true or false",
    "`float`": "a number",
    "`object`": "an object",
    "`array`": "a list",
}
_NAMED: Final = re.compile(r"^Object (?P<what>contains unknown|missing required) field `(?P<name>.*?)`", re.DOTALL)


def read_submission(body: bytes) -> tuple[list[TaskSpec], bool]:
    """Return the tasks of a request body and whether it was a list; raises InvalidSubmission."""
    is_list = body.lstrip()[:1] == b"["
    if not is_list and len(body) > MAX_SINGLE_BODY_BYTES:
        raise InvalidSubmission("", f"one task may have {MAX_SINGLE_BODY_BYTES} bytes")
    try:
        check_shape(body)
        specs = _LIST.decode(body) if is_list else [_SINGLE.decode(body)]
    except BadShape as error:
        raise InvalidSubmission("", f"the body {error}") from None
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidSubmission("", f"the body is not JSON: {error}") from None
    if not specs:
        raise InvalidSubmission("", "the list is empty")
    if len(specs) > MAX_TASKS:
        raise InvalidSubmission("", f"{len(specs)} tasks in one request; at most {MAX_TASKS} are allowed")
    for position, spec in enumerate(specs):
        try:
            _check(spec)
        except InvalidSubmission as error:
            raise InvalidSubmission(prefix_of(position, is_list=is_list) + error.field, error.message) from None
    if (count := sum(len(spec.inputs) for spec in specs)) > MAX_INPUTS_IN_ALL:
        raise InvalidSubmission("", f"{count} inputs in one request; at most {MAX_INPUTS_IN_ALL} are allowed")
    return specs, is_list


def prefix_of(position: int, *, is_list: bool) -> str:
    """Return what stands before a field's name in an error about the task at this position of the request."""
    return f"[{position}]." if is_list else ""


def _check(spec: TaskSpec) -> None:
    if "\0" in spec.command:
        raise InvalidSubmission("command", "must not contain a NUL character")
    if len(spec.command) * 4 > MAX_COMMAND_BYTES and len(spec.command.encode()) > MAX_COMMAND_BYTES:
        raise InvalidSubmission("command", f"must have at most {MAX_COMMAND_BYTES} bytes")
    if spec.name and not spec.name.isprintable():
        raise InvalidSubmission("name", "must not contain control characters")
    if spec.network and spec.sandbox is SandboxLevel.VERY_STRICT:
        raise InvalidSubmission("network", "is never given at sandbox very_strict")
    if spec.env:
        _check_env(spec.env)
    if spec.inputs or spec.outputs:
        _check_files(spec)


def _check_env(env: dict[str, str]) -> None:
    size = 0
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            text = f"{name[:64]!r} is no variable name: letters, digits and _, not a digit first"
            raise InvalidSubmission("env", text)
        if name.startswith(_RESERVED_PREFIX):
            raise InvalidSubmission(f"env.{name}", f"names beginning with {_RESERVED_PREFIX} are reserved")
        if "\0" in value:
            raise InvalidSubmission(f"env.{name}", "must not contain a NUL character")
        size += len(name) + len(value.encode()) + 2
    if size > MAX_ENV_BYTES:
        raise InvalidSubmission("env", f"must have at most {MAX_ENV_BYTES} bytes in all")


def _check_files(spec: TaskSpec) -> None:
    for field, check, names in (("inputs", check_inputs, spec.inputs), ("outputs", check_outputs, spec.outputs)):
        try:
            check(names)
        except NotAllowed as error:
            raise InvalidSubmission(field, str(error)) from None


def _explained(text: str) -> InvalidSubmission:
    """Turn msgspec's words into a field and a cause."""
    placed = _AT.match(text)
    message, path = (placed["message"], placed["path"]) if placed else (text, "$")
    field = path.removeprefix("$").removeprefix(".")
    named = _NAMED.match(message)
    if named:
        field = f"{field}.{named['name']}" if field else named["name"]
        is_unknown = named["what"] == "contains unknown"
        return InvalidSubmission(field, "there is no such field" if is_unknown else "this field is required")
    for word, plain in _PLAIN_WORDS.items():
        message = message.replace(word, plain)
    return InvalidSubmission(field, message[:1].lower() + message[1:])
