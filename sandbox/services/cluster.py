"""The stand-in cluster, with the hotel's releases as images that it can run."""

from __future__ import annotations

import json
import sys

import httpx

from sandbox.processes import Process
from sandbox.services import ready
from sandbox.services.access import access, kubeconfig
from sandbox.services.component import Component, Context
from sandbox.services.registry import catalogue
from sandbox.services.workloads import NAMESPACES
from sandbox.settings import SandboxError


class Images(Component):
    """The hotel's releases, laid out as images."""

    name = "images"

    def start(self, context: Context) -> None:
        from sandbox.hotel.build import build

        build(catalogue(context.settings).parent)


class Cluster(Component):
    """The Kubernetes API, with empty namespaces."""

    name = "kubernetes"
    needs = ("images",)
    grace_seconds = 5.0
    """Its own guardian ends the pods that are not done by then."""

    def start(self, context: Context) -> None:
        settings = context.settings
        config = {
            "subnet": settings.subnet,
            "port": settings.port(self.name),
            "token": settings.secrets.cluster,
            "data_dir": str(kubeconfig(settings).parent),
            "catalogue": str(catalogue(settings)),
        }
        path = settings.folder("cluster") / "config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        argv = [sys.executable, "-m", "sandbox.cluster", "--config", str(path)]
        process = context.own(Process(self.name, argv, settings.log(self.name)))
        ready.until_answering(f"{settings.url(self.name)}/readyz", process)
        with access(settings).client() as client:
            for name in NAMESPACES:
                answer = client.post("/api/v1/namespaces", json={"metadata": {"name": name}})
                if answer.status_code != httpx.codes.CREATED:
                    raise SandboxError(f"the cluster refused the namespace {name}: {answer.text[:500]}")
