"""Section `traffic` of the plan: how traffic is moved, and how an answer shows which version gave it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from handover.models.json_text import decoded
from handover.models.versions import same_version
from handover.plan.parts import Command, ConnectionId, Count, Seconds, Section, UrlPath

HeaderName = Annotated[str, StringConstraints(pattern=r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")]
"""A token of RFC 9110."""
DottedPath = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
MAX_SAID = 128
"""Characters; what is longer is no version and no pod."""


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups; the version, or the pod, is what its one group finds")
    return pattern


class Origin(Section):
    """Where an answer says which version gave it: in a ``header``, in a ``field`` of its JSON (a path such as
    ``build.version``), or in its text, by a ``pattern`` with one group. ``path``: what is asked for it, health.path by
    default. ``names_pod``: what it says is the pod, whose name begins with that of its Deployment.
    """

    header: HeaderName | None = None
    field: DottedPath | None = None
    pattern: Annotated[str, AfterValidator(_one_group)] | None = None
    path: UrlPath | None = None
    names_pod: bool = False

    @model_validator(mode="after")
    def _in_one_place(self) -> Origin:
        if [self.header, self.field, self.pattern].count(None) != 2:
            raise ValueError("say one of header, field and pattern")
        return self

    @property
    def in_every_answer(self) -> bool:
        """Whether answers to any path say it."""
        return self.header is not None and self.path is None

    @property
    def place(self) -> str:
        """For people: where it is looked for."""
        where = f"header {self.header}" if self.header else f"field {self.field}" if self.field else "text"
        return f"{where} of {self.path}" if self.path else where

    def said(self, headers: Mapping[str, str], body: str) -> str:
        """What an answer says; empty for nothing.

        :param headers: of any case
        """
        if self.header:
            found: Any = next((value for name, value in headers.items() if name.lower() == self.header.lower()), "")
        elif self.field:
            found = _at(body, self.field)
        else:
            match = re.search(self.pattern or "", body)
            found = match[1] if match else ""
        text = str(found).strip() if isinstance(found, str | int | float) and not isinstance(found, bool) else ""
        return text if len(text) <= MAX_SAID else ""

    def is_from(self, said: str, wanted: str) -> bool:
        """Whether that is the version, or a pod of the Deployment, that is wanted (`Plan.said_by`)."""
        return bool(wanted) and (said.startswith(f"{wanted}-") if self.names_pod else same_version(said, wanted))


def _at(body: str, path: str) -> Any:
    try:
        found = decoded(body)
    except ValueError:
        return None
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


class Traffic(Section):
    api_connection: ConnectionId
    preview_connection: ConnectionId
    smoke_command: Command | None = None
    origin: Origin | None
    """None: answers do not say it. Then ``entry_seconds`` says how long both versions serve at a cutover."""
    overlap_seconds: Annotated[float, Field(ge=0)]
    endpoint_timeout_seconds: Seconds
    drain_path: UrlPath | None
    drain_header: str
    drain_timeout_seconds: Seconds
    verify_requests: Count
    public_timeout_seconds: Seconds = 300.0
    """How long the public address may take until it answers from the new version, while both serve."""
    entry_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long what lies before the service takes to let a new pod in, as the health checks of a load balancer with
    pod addresses as targets do. None: as each cutover measures it.
    """

    @model_validator(mode="after")
    def _what_nobody_says_takes_its_time(self) -> Traffic:
        if self.origin is None and self.entry_seconds is None:
            raise ValueError("entry_seconds is needed where no origin tells which version answered")
        return self
