"""Drafts the plan of a service that runs in a cluster already: ``python -m handover adopt --namespace N --service S``.

Looks and changes nothing. Prints the plan, or writes with ``--write DIR`` (where plans are read from by default) the
plan, the manifest of its Deployments, what the cluster lacks to begin with, and the connections for Airflow; those that
are the same for another plan there are shared. Then `prepare` brings the service there. Files that are there already
are kept.

Exit codes: 0 drafted, 1 the service cannot be deployed blue-green as it is, or a file is there already (stderr says
which), 2 the cluster did not answer or refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handover.adapters.kube_access import NoAccess
from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.adoption import drafting
from handover.adoption.findings import (
    FoundService,
    NotAdoptable,
    ServiceObjects,
    find,
    health_paths,
    metrics_paths,
    target_port,
)
from handover.adoption.origins import USUAL_PATHS
from handover.cli.options import with_cluster
from handover.coordination.routing import DEPLOYMENTS, is_ready
from handover.models.image_reference import ImageReference
from handover.plan.load import PlanError, load_plan
from handover.plan.parts import plans_folder
from handover.plan.pod_metrics import PodMetricsRules
from handover.ports.kube import KubeError, NotFound, PodAnswer
from handover.telemetry.counters import Counters, NoMetrics
from handover.telemetry.reader import Reader

if TYPE_CHECKING:
    from handover.ports.kube import Json, Kube

DONE, REFUSED, UNANSWERED = 0, 1, 2
SCALERS = "autoscaling/v1/horizontalpodautoscalers"
INGRESSES = "networking.k8s.io/v1/ingresses"
CURRENT = 0.0


def main(command: str, argv: list[str]) -> int:
    given = _parser(command).parse_args(argv)
    name = given.name or re.sub(r"[^a-z0-9]+", "_", given.service.lower()).strip("_")
    try:
        found = asyncio.run(_look(given))
        if given.json:
            print(json.dumps(_told(found), indent=1))
        elif given.write is None:
            print(drafting.plan(found, name, _shared(found, plans_folder())), end="")
        else:
            _write(found, name, given.write, _kubeconfig(given.kubeconfig))
    except (NotAdoptable, FileExistsError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    except (KubeError, NoAccess, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return UNANSWERED
    return DONE


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m handover {command}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    with_cluster(parser)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--service", required=True, help="the Service that clients' requests go through")
    parser.add_argument("--container", default="", help="which container is the service, where pods have several")
    parser.add_argument("--name", default="", help="of the plan; by default that of the Service")
    parser.add_argument(
        "--write", type=Path, nargs="?", const=plans_folder().parent, metavar="DIR", help="write the files"
    )
    parser.add_argument("--json", action="store_true", help="what was found, as JSON")
    return parser


async def _look(given: argparse.Namespace) -> FoundService:
    async with connect_with_kubeconfig(given.kubeconfig, given.namespace, given.context) as kube:
        try:
            service = await kube.get("services", given.service)
        except NotFound:
            there = ", ".join(sorted(one["metadata"]["name"] for one in await kube.list("services"))) or "none"
            raise NotAdoptable(f"no Service {given.service} in {given.namespace}; there are: {there}") from None
        return find(await seen(kube, service), given.container)


async def seen(kube: Kube, service: Json) -> ServiceObjects:
    """Everything that is read of a service. Raises `KubeError`."""
    selector: Mapping[str, str] = service["spec"].get("selector") or {}
    pods = [pod for pod in await kube.list("pods", dict(selector)) if is_ready(pod)] if selector else []
    deployments = [one for one in await kube.list(DEPLOYMENTS) if selector and _bears(one, selector)]
    names = {one["metadata"]["name"] for one in deployments}
    scalers = [one for one in await _some(kube, SCALERS) if one["spec"]["scaleTargetRef"]["name"] in names]
    ingresses = [one for one in await _some(kube, INGRESSES) if service["metadata"]["name"] in _backends(one)]
    port, metrics = await _metrics(kube, deployments, pods)
    answers = await _answers(kube, service, deployments, pods)
    pod = pods[0]["metadata"]["name"] if pods else ""
    return ServiceObjects(service, deployments, scalers, ingresses, metrics, port, pod, answers)


async def _some(kube: Kube, resource: str) -> list[Json]:
    """What is there of a kind that this user perhaps may not read, or this cluster has not."""
    try:
        return await kube.list(resource)
    except KubeError:
        return []


async def _metrics(
    kube: Kube, deployments: Iterable[Json], pods: Iterable[Json]
) -> tuple[int | None, dict[str, Counters | NoMetrics]]:
    """The port that metrics were found on, and what the first pod says by path, up to the first that can be read."""
    deployment, pod = next(iter(deployments), None), next(iter(pods), None)
    found: dict[str, Counters | NoMetrics] = {}
    if deployment is None or pod is None:
        return None, found
    annotations = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    ports = [port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
    said = str(annotations.get("prometheus.io/port", ""))
    for path in metrics_paths(deployment):
        for port in [int(said)] if said.isdecimal() else ports:
            try:
                text = await kube.proxy(pod["metadata"]["name"], port, path)
                return port, {path: Reader(PodMetricsRules(path=path)).read(text, CURRENT)}
            except NoMetrics as error:
                found[path] = error
            except KubeError as error:
                found[path] = NoMetrics(str(error)[:120])
    return None, found


async def _answers(
    kube: Kube, service: Json, deployments: Iterable[Json], pods: Iterable[Json]
) -> dict[str, PodAnswer]:
    """What the first pod answers where it may say what it is."""
    found: dict[str, PodAnswer] = {}
    for pod in list(pods)[:1]:
        if (port := target_port(service, pod)) is None:
            break
        paths = [path for one in deployments for path in health_paths(one)]
        for path in dict.fromkeys((*paths, *USUAL_PATHS)):
            with contextlib.suppress(KubeError):
                found[path] = await kube.proxied(pod["metadata"]["name"], port, path)
    return found


def _bears(deployment: Json, selector: Mapping[str, str]) -> bool:
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    return selector.items() <= labels.items()


def _backends(ingress: Json) -> set[str]:
    spec = ingress["spec"]
    paths = [path for rule in spec.get("rules") or () for path in (rule.get("http") or {}).get("paths") or ()]
    backends = [path.get("backend") for path in paths] + [spec.get("defaultBackend")]
    return {((one or {}).get("service") or {}).get("name", "") for one in backends}


def _told(found: FoundService) -> dict[str, Any]:
    return {
        "namespace": found.namespace, "service": found.service, "app": {found.app_label: found.app},
        "colour": found.colour or None, "deployment": found.deployment["metadata"]["name"],
        "container": found.container, "image": str(found.image), "port": found.port, "replicas": found.replicas,
        "health_path": found.health_path, "metrics_path": found.metrics_path, "metrics": found.metrics or None,
        "origin": found.origin.model_dump(exclude_defaults=True) if found.origin else None,
        "notes": list(found.notes),
    }  # fmt: skip


def _kubeconfig(given: str | None) -> str:
    """The file that is asked, as somebody else on this machine would name it."""
    first = (given or os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep)[0]
    return str(Path(first).expanduser().absolute())


def _shared(found: FoundService, plans: Path) -> drafting.Shared:
    """What plans that are there have connections for: this Airflow, and the image's registry."""
    shared = drafting.Shared()
    for file in sorted(plans.glob("*.yaml")):
        with contextlib.suppress(PlanError):  # `check` says what is wrong with it
            plan = load_plan(file)
            same = ImageReference.parse(plan.image.repository).registry == found.image.registry
            shared = drafting.Shared(
                shared.airflow or plan.rollback.airflow_connection,
                shared.registry or (plan.image.connection if same else ""),
            )
    return shared


def _write(found: FoundService, name: str, folder: Path, kubeconfig: str) -> None:
    """Raises `FileExistsError` before anything is written."""
    first = folder / "k8s" / f"{name}-first.yaml"
    connections = folder / "connections" / f"{name}.json"
    shared = _shared(found, folder / "plans")
    files = {
        connections: drafting.connections(found, name, kubeconfig, shared),
        folder / "plans" / f"{name}.yaml": drafting.plan(found, name, shared),
        folder / "k8s" / drafting.manifest_name(name): drafting.manifest(found), first: drafting.to_apply(found),
    }  # fmt: skip
    if there := [str(file) for file in files if file.exists()]:
        raise FileExistsError(f"{', '.join(there)}: there already; nothing was written")
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600 if file == connections else 0o666)
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file}")
    for note in found.notes:
        print(f"note: {note}")
    print("Nothing was changed in the cluster. Look at what was written, fill in the connections' secrets, and then:")
    print(f"  python -m handover prepare --plan {name} --kubeconfig {kubeconfig}")
