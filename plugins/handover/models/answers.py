"""What an answer says about the release that gave it: the one rule for everybody who asks the service. Pure."""

from __future__ import annotations

from enum import StrEnum

NO_ANSWER = 0
"""The status of a request that got none: refused, cut off, too late."""
TOO_MANY_REQUESTS = 429
ABOUT_THE_CLIENT = frozenset({403, 407, TOO_MANY_REQUESTS, 451})
"""Given to whoever asks, most often by something in front of the service: a limit of requests, a firewall, a proxy."""


class Answered(StrEnum):
    GOOD = "good"
    BAD = "bad"
    NO_DATA = "no data"
    """The answer says nothing about the release: neither a success nor an error of it."""


def judged(status: int, *, stable: int | None = None) -> Answered:
    """Good are 2xx and 3xx, bad are 5xx and no answer at all (`NO_ANSWER`).

    What is about the client (429, 403 and the like) is no data. Any other 4xx is bad if the stable version answers the
    same request well, and no data if it does not or nobody knows: then the request is wrong, not the release. A status
    that HTTP does not have is no data.

    :param stable: what the stable version answered to the same request, None: not known
    """
    if 200 <= status <= 399:
        return Answered.GOOD
    if status == NO_ANSWER or 500 <= status <= 599:
        return Answered.BAD
    if 400 <= status <= 499 and status not in ABOUT_THE_CLIENT and stable is not None and 200 <= stable <= 399:
        return Answered.BAD
    return Answered.NO_DATA


def problem(status: int, why: str = "", *, stable: int | None = None) -> str:
    """Why an answer is bad: ``why`` there was none, or its status. Empty for one that is good or says nothing."""
    return (why or f"status {status}") if judged(status, stable=stable) is Answered.BAD else ""


def silence(status: int, *, stable: int | None = None) -> str:
    """Why an answer is no data. Empty for one that is good or bad."""
    if judged(status, stable=stable) is not Answered.NO_DATA:
        return ""
    whose = "the client is refused" if status in ABOUT_THE_CLIENT else "not known to be the release's fault"
    return f"status {status}: {whose}, which says nothing about the release"
