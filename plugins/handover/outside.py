"""What stands behind each port: the adapters of production, unless somebody has put others in their place.

A new adapter is one file in `handover.adapters` and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from handover.adapters import airflow_rest, jira, kubernetes, public_http, service_router, slack, smtp, status_page

if TYPE_CHECKING:
    from handover.plan.model import Cluster, Plan
    from handover.ports.airflow import AirflowApi
    from handover.ports.channel import Channel, Tickets
    from handover.ports.kube import Kube
    from handover.ports.public import PublicAddress
    from handover.ports.router import Router

CHANNELS: dict[str, Callable[[Plan], Channel]] = {
    "slack": slack.Slack, "status page": status_page.StatusPage, "e-mail": smtp.Smtp,
}  # fmt: skip


@dataclass(frozen=True)
class Outside:
    """``kube``: by Airflow connection and namespace; ``router``: of one Service of a plan's cluster; ``public`` and
    ``airflow``: by Airflow connection; ``channels``: of each kind of letter, and ``tickets``: by plan.
    """

    kube: Callable[[str, str], AbstractAsyncContextManager[Kube]] = kubernetes.connect
    router: Callable[[Kube, Cluster, str], Router] = service_router.ServiceRouter
    public: Callable[[str], AbstractAsyncContextManager[PublicAddress]] = public_http.connect
    airflow: Callable[[str], AirflowApi] = airflow_rest.AirflowRest
    channels: Mapping[str, Callable[[Plan], Channel]] = field(default_factory=lambda: CHANNELS)
    tickets: Callable[[Plan], Tickets] = jira.Jira


_CURRENT: ContextVar[Outside] = ContextVar("outside", default=Outside())  # noqa: B039 - it is frozen


def outside() -> Outside:
    """The adapters that this task of this process is to use."""
    return _CURRENT.get()


@contextmanager
def standing_in(other: Outside) -> Iterator[None]:
    """For as long as the block runs, and in every task that begins in it."""
    token = _CURRENT.set(other)
    try:
        yield
    finally:
        _CURRENT.reset(token)
