"""The verdict on a release: made from its lines, kept in the cluster beside the deployment's state, read by a gate."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from handover.models.evidence import Evidence, Verdict
from handover.models.readiness import LineVerdict, Readiness, Subject
from handover.ports.kube import Conflict, Kube

if TYPE_CHECKING:
    from handover.readiness.checklist import Checklist

CONFIG_MAPS = "configmaps"
KEY = "readiness"
MAX_REASON = 500
IMAGE_LINE = "release_image"


class Unreadable(ValueError):
    """What lies in the cluster is no readiness."""


def concluded(
    checklist: Checklist, subject: Subject, found: Mapping[str, Evidence | None], *, run: str, owner: str, now: float,
    valid_seconds: float,
) -> Readiness:  # fmt: skip
    """The verdict: a pass only if every line passed and the image is known. ``found``: evidence by line id.

    :param owner: the role that must act when the image is not known
    """
    against = [
        LineVerdict(id=leaf.id, line=leaf.line, owner=leaf.owner, verdict=verdict, reason=reason[:MAX_REASON])
        for leaf in checklist.leaves
        for verdict, reason in [_of(found.get(leaf.id))]
        if verdict is not Verdict.PASS
    ]
    if not subject.digest:
        why = "the registry did not tell the digest of the image, so this verdict is for no image"
        verdict = LineVerdict(
            id=IMAGE_LINE, line="The release's image", owner=owner, verdict=Verdict.UNKNOWN, reason=why
        )
        against.append(verdict)
    worst = Verdict.FAIL if any(one.verdict is Verdict.FAIL for one in against) else Verdict.UNKNOWN
    return Readiness(
        version=subject.version, digest=subject.digest, verdict=worst if against else Verdict.PASS, at=now,
        expires=now + valid_seconds, run=run, lines=len(checklist.leaves), against=tuple(against),
    )  # fmt: skip


def _of(evidence: Evidence | None) -> tuple[Verdict, str]:
    return (evidence.verdict, evidence.reason) if evidence else (Verdict.UNKNOWN, "its task left no evidence")


def problem(known: Readiness | None, version: str, digest: str, now: float) -> str:
    """Why a release may not be deployed on this readiness, or nothing."""
    if known is None:
        return "no readiness was ever recorded"
    if known.version != version:
        return f"the last readiness is of {known.version}, not of {version}"
    if known.digest != digest:
        return f"the last readiness is of the image {known.digest or 'unknown'}, not of {digest}"
    if known.verdict is not Verdict.PASS:
        lines = "; ".join(f"{one.id} ({one.verdict}, {one.owner}): {one.reason}" for one in known.against[:10])
        more = f"; and {len(known.against) - 10} more" if len(known.against) > 10 else ""
        return f"{version} is not ready: {lines}{more}"
    if now >= known.expires:
        ended = datetime.datetime.fromtimestamp(known.expires, datetime.UTC)
        return f"the readiness of {version} expired on {ended:%A %Y-%m-%d %H:%M} UTC"
    return ""


async def read(kube: Kube, name: str) -> Readiness | None:
    """Raises `Unreadable`."""
    found = await kube.find(CONFIG_MAPS, name)
    if found is None:
        return None
    try:
        return Readiness.model_validate_json((found.get("data") or {}).get(KEY, ""))
    except ValidationError:
        raise Unreadable(f"the ConfigMap {name} in {kube.namespace} holds no readiness") from None


async def hand_over(kube: Kube, name: str, result: Readiness) -> None:
    """Keeps the verdict where the gate looks; a newer one is never replaced by an older one."""
    while True:
        found = await kube.find(CONFIG_MAPS, name)
        body = {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": kube.namespace},
            "data": {KEY: result.model_dump_json(indent=1)},
        }  # fmt: skip
        try:
            if found is None:
                await kube.create(CONFIG_MAPS, body)
                return
            if _at(found) > result.at:
                return
            body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]  # type: ignore[index]
            await kube.replace(CONFIG_MAPS, name, body)
            return
        except Conflict:
            continue


def _at(found: Mapping[str, object]) -> float:
    try:
        return Readiness.model_validate_json((found.get("data") or {}).get(KEY, "")).at  # type: ignore[attr-defined]
    except ValidationError:
        return 0.0
