"""How many endpoints of the public Service serve, looked at while something is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

SLICES = "/apis/discovery.k8s.io/v1/namespaces/production/endpointslices"


@contextmanager
def endpoints_seen(kube) -> Iterator[list[int]]:
    """How many endpoints served at each moment."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            slices = kube.get(SLICES, params={"labelSelector": "kubernetes.io/service-name=pms-api"}).json()["items"]
            ends = [end for one in slices for end in one.get("endpoints") or ()]
            seen.append(len({end["addresses"][0] for end in ends if end["conditions"]["ready"]}))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
