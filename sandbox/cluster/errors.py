"""Errors as the Kubernetes API reports them: a `Status` object with a reason and a code."""

from __future__ import annotations

from typing import Any


class StatusError(Exception):
    """A failed call. `reason` is what clients test for; `code` is the HTTP status."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}

    def status(self) -> dict[str, Any]:
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
            "reason": self.reason, "details": self.details, "code": self.code,
        }  # fmt: skip


def not_found(resource: str, name: str) -> StatusError:
    return StatusError(404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource})


def conflict(resource: str, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, {"name": name, "kind": resource})


def invalid(kind: str, name: str, *problems: tuple[str, str]) -> StatusError:
    """422: the request is understood and breaks a rule. A problem is a field and what is wrong with it."""
    causes = [{"reason": "FieldValueInvalid", "field": field, "message": text} for field, text in problems]
    listed = ", ".join(f"{field}: {text}" for field, text in problems)
    message = f'{kind} "{name}" is invalid: {listed}'
    return StatusError(422, "Invalid", message, {"name": name, "kind": kind, "causes": causes})


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)
