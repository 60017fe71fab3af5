"""Asks every operation of an OpenAPI document what it allows and what it does not, and tells where answers differ.

Nothing made up is ever executed: the commands of submitted tasks become `true` before they are sent.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import schemathesis
from schemathesis import GenerationMode
from schemathesis.config import (
    ChecksConfig,
    CoveragePhaseConfig,
    ExamplesPhaseConfig,
    FuzzingPhaseConfig,
    GenerationConfig,
    HealthCheck,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
    SimpleCheckConfig,
    StatefulPhaseConfig,
)
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

SEED: Final = int(os.environ.get("FUZZ_SEED", "20260101"))
REQUEST_TIMEOUT_S: Final = 20.0
MAX_COMMAND_BYTES: Final = 65_536
HARMLESS: Final = "true"
LONGEST_WAIT_S: Final = 0.05
NO_TASK: Final = "0"
UNSAYABLE: Final = {"cursor", "name", "inputs", "outputs", "env", "network", "from_attempt", "Idempotency-Key"}
"""Fields with rules that no schema can say: which cursors were given, which names files may have, what goes together, and
what was there before."""


@dataclass
class Exploration:
    """What was asked, and what was wrong with the answers."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often an operation answered with a status."""
    findings: dict[tuple[str, str], str] = field(default_factory=dict)
    """The first of each kind: (operation, what is wrong) to the request and the words."""
    errors: list[str] = field(default_factory=list)

    def head(self) -> str:
        """Return in a line how much was asked."""
        asked, operations = sum(self.statuses.values()), len(self.operations())
        return f"seed {SEED}, {asked} requests to {operations} operations, {len(self.findings)} findings"

    def operations(self) -> set[str]:
        """Return what was asked, as `GET /api/v1/tasks`."""
        return {operation for operation, _ in self.statuses}

    def told(self) -> str:
        """Return all of it as a text."""
        found = [f"--- {operation}: {kind}\n{text}" for (operation, kind), text in sorted(self.findings.items())]
        return "\n".join([self.head(), *found, *self.errors])

    def operations_with(self, statuses: range) -> set[str]:
        """Return the operations that gave an answer of these."""
        return {operation for operation, status in self.statuses if status in statuses}


def explore(
    document: dict[str, Any],
    url: str,
    headers: dict[str, str],
    *,
    ended_task: str,
    examples: int,
    is_thorough: bool = True,
) -> Exploration:
    """Ask everything that the document has, with these headers; `examples` made-up requests an operation, good and bad.

    If thorough, also each bound of each value, one at a time.

    Output is only ever followed of `ended_task`, which stays ended: of a queued task it would have no end.
    """
    _be_harmless(ended_task)
    try:
        schema = schemathesis.openapi.from_dict(
            document, config=_config(url, headers, examples, is_thorough=is_thorough)
        )
        return _read(from_schema(schema).execute())
    finally:
        schemathesis.hooks.GLOBAL_HOOK_DISPATCHER.unregister_all()


def _config(url: str, headers: dict[str, str], examples: int, *, is_thorough: bool) -> SchemathesisConfig:
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    off = SimpleCheckConfig(enabled=False)
    project = ProjectConfig(
        base_url=url,
        headers=headers,
        workers=1,
        continue_on_failure=True,
        request_timeout=REQUEST_TIMEOUT_S,
        checks=ChecksConfig(
            # Sequences are not drawn here, and a schema cannot say which names and ids there are.
            use_after_free=off,
            ensure_resource_availability=off,
            object_level_authorization=off,
        ),
        generation=GenerationConfig(
            modes=modes, max_examples=examples, deterministic=True, no_shrink=True, database="none"
        ),
        phases=PhasesConfig(
            examples=ExamplesPhaseConfig(enabled=False),
            coverage=CoveragePhaseConfig(enabled=is_thorough, generate_duplicate_query_parameters=True),
            fuzzing=FuzzingPhaseConfig(),
            stateful=StatefulPhaseConfig(enabled=False),
        ),
    )
    projects = ProjectsConfig(default=project)
    return SchemathesisConfig(seed=SEED, suppress_health_check=[HealthCheck.all], projects=projects)


def _be_harmless(ended_task: str) -> None:
    """Change what is about to be sent: nothing made up runs, nothing waits for long, and the ended task stays ended."""

    @schemathesis.hook("before_call")
    def make_harmless(context: Any, case: Any, kwargs: Any) -> None:
        path = case.operation.path
        _drop_points(case.body)
        if path.endswith("/tasks"):
            _calm(case.body)
        elif path.endswith("/tasks/wait") and isinstance(case.body, dict):
            timeout_s = case.body.get("timeout", 30)
            if isinstance(timeout_s, int | float) and LONGEST_WAIT_S < timeout_s <= 60:
                case.body["timeout"] = LONGEST_WAIT_S
        elif path.endswith(("/stdout", "/stderr")) and "follow" in (case.query or {}):
            case.path_parameters["id"] = ended_task
        elif path.endswith("/{id}/retry") and case.path_parameters.get("id") == ended_task:
            case.path_parameters["id"] = NO_TASK
        elif path.endswith("/tasks/retry") and isinstance(case.body, dict) and isinstance(case.body.get("ids"), list):
            case.body["ids"] = [NO_TASK if task_id == ended_task else task_id for task_id in case.body["ids"]]

    @schemathesis.hook("filter_failure")
    def keep_failure(context: Any, failure: Failure, case: Any, response: Response) -> bool:
        return not (isinstance(failure, RejectedPositiveData) and _names_a_rule_beyond_schemas(response))


def _names_a_rule_beyond_schemas(response: Response) -> bool:
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return True
    is_told = response.status_code in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
    errors = response.json()["errors"] if is_told else []
    return any(
        not UNSAYABLE.isdisjoint(error["field"].split(".")) or "null character" in error["message"].lower()
        for error in errors
    )


def _drop_points(body: Any) -> None:
    """Write whole numbers as such: for JSON Schema 1.0 is one, for this interface it is none."""
    places = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for place, value in list(places):
        if isinstance(value, float) and value.is_integer():
            body[place] = int(value)
        else:
            _drop_points(value)


def _calm(body: Any) -> None:
    """Put `true` in place of every command, wrong in the same way if it was wrong."""
    for task in body if isinstance(body, list) else [body]:
        if isinstance(task, dict) and isinstance(command := task.get("command"), str) and command:
            is_too_long = len(command.encode(errors="replace")) > MAX_COMMAND_BYTES
            comment = f" #{'0' * MAX_COMMAND_BYTES}" if is_too_long else ""
            task["command"] = HARMLESS + comment + ("\0" if "\0" in command else "")


def _read(stream: Iterator[Any]) -> Exploration:
    seen = Exploration()
    for event in stream:
        if isinstance(event, events.ScenarioFinished):
            _note(event.recorder, seen)
        elif isinstance(event, events.NonFatalError):
            seen.errors.append(f"--- {event.label}: {event.info.title}\n{event.info.message}\n{event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return seen


def _note(recorder: Any, seen: Exploration) -> None:
    for case_id, interaction in recorder.interactions.items():
        if interaction.response is not None:
            node = recorder.cases[case_id]
            seen.statuses[node.value.operation.label, interaction.response.status_code] += 1
    for case_id, checks in recorder.checks.items():
        answer = recorder.find_response(case_id=case_id)
        for check in checks:
            if check.status == Status.FAILURE and check.failure_info is not None:
                failure = check.failure_info.failure
                kind = f"{check.name}: {failure.title}"
                text = f"{failure.message}\n{check.failure_info.code_sample}\n{answer.text[:500] if answer else ''}"
                seen.findings.setdefault((failure.operation or recorder.label, kind), text)
