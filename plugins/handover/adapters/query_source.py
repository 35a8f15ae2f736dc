"""What all monitors have in common: queries are asked side by side, in bounded time, each with its own reason."""

from __future__ import annotations

import abc
import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from handover import clock
from handover.models.evidence import Measurement
from handover.ports.metrics import NoAnswer, NoData, Query

MISFORMED = (KeyError, IndexError, TypeError, AttributeError, ValueError)


@dataclass(frozen=True)
class Sample:
    """``at``: seconds since the epoch when it was so; None: now."""

    value: float
    at: float | None = None


class QuerySource(abc.ABC):
    """A `MetricSource` that gives one measurement for each query.

    :param seconds: a look takes no longer, however many queries there are
    """

    def __init__(self, name: str, queries: Sequence[Query], seconds: float) -> None:
        self.name = name
        self._queries, self._seconds = tuple(queries), seconds

    async def measure(self) -> list[Measurement]:
        """Raises `NoAnswer` when no query was answered, since the source cannot be asked."""
        tasks = [asyncio.create_task(self._asked(query)) for query in self._queries]
        try:
            await asyncio.wait(tasks, timeout=self._seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        late = NoAnswer(f"no answer within {self._seconds:g} s")
        found = [late if task.cancelled() else task.result() for task in tasks]
        silences = [one for one in found if isinstance(one, NoAnswer)]
        if len(silences) == len(found):
            raise silences[0]
        return [self._measurement(query, one) for query, one in zip(self._queries, found, strict=True)]

    @abc.abstractmethod
    async def ask(self, query: Query) -> Sample:
        """Raises `NoData`; an answer of another form than it should have may raise any of `MISFORMED`."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Lets go of what it holds."""

    async def _asked(self, query: Query) -> Sample | NoData:
        try:
            return await self.ask(query)
        except NoData as error:
            return error
        except MISFORMED as error:
            return NoAnswer(f"the answer has another form than it should ({type(error).__name__})")
        except Exception as error:  # whose text may quote anything
            return NoAnswer(f"the source could not be asked ({type(error).__name__})")

    def _measurement(self, query: Query, found: Sample | NoData) -> Measurement:
        if isinstance(found, NoData):
            return Measurement(what=query.name, value=None, unit=query.unit, source=self.name, why=str(found))
        at = clock.epoch() if found.at is None else found.at
        return Measurement(what=query.name, value=found.value, unit=query.unit, source=self.name, at=at)


def number(value: object) -> float:
    """The value as what it is: nothing that only looks like a number. Raises `NoData`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoData(f"{kind_of(value)}, not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise NoData(f"{found} is no value")
    return found


def number_in(text: object) -> float:
    """The same where a protocol writes its numbers as text. Raises `NoData`."""
    try:
        return number(float(text)) if isinstance(text, str) else number(text)
    except ValueError:
        raise NoData("text, not a number") from None


def only(found: Sequence[object], what: str) -> None:
    """Raises `NoData` unless there is exactly one, and says how many there are."""
    if len(found) != 1:
        raise NoData(f"{len(found) or 'no'} {what}, exactly one is wanted")


def kind_of(value: object) -> str:
    """In words, without the value: it may be a secret, or somebody's name."""
    kinds = {str: "text", bool: "true or false", list: "a list", dict: "a mapping", type(None): "nothing"}
    return kinds.get(type(value), type(value).__name__)
