"""Gets the migrations of a release out of its own image, so that what runs is what was tested (plan 3.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from handover.database.migrations import Bundle, BundleError
from handover.kube import jobs
from handover.models.image_reference import ImageReference

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Kube

ATTEMPTS = 3
BEGIN, END = "-----BEGIN MIGRATIONS-----", "-----END MIGRATIONS-----"
_PACK = f'packed=$(tar -cz -C "$1" . | base64) && echo "{BEGIN}" && echo "$packed" && echo "{END}"'


async def bundle(kube: Kube, plan: Plan, image: str, key: str) -> Bundle:
    """The bundle of an image given by digest; by a Job that is found again under the same ``key`` once it was good.

    Raises `BundleError` when the image has no readable folder of migrations.
    """
    if not ImageReference.parse(image).pinned:
        raise BundleError(f"{image} is not given by digest: nobody knows what it will be tomorrow")
    command = jobs.Command(
        name=f"{plan.cluster.app}-migrations",
        key=f"{key}/{image}",
        image=image,
        argv=("sh", "-c", _PACK, "sh", plan.database.folder),
        pull_secret=plan.image.pull_secret,
        settings=False,
    )
    said = "nothing"
    for _ in range(ATTEMPTS):
        result = await jobs.run(kube, plan.cluster, command)
        if result.succeeded and BEGIN in result.printed:
            return unpack(result.printed)
        await jobs.answered(kube, result)
        said = result.output.strip()[-300:] or result.reason or said
    raise BundleError(f"{plan.database.folder} of {image} cannot be read: {said}")


def unpack(output: str) -> Bundle:
    """The bundle in what the Job printed. Raises `BundleError`."""
    found = re.search(f"{BEGIN}\n(.*?)\n{END}", output, re.DOTALL)
    if not found:
        raise BundleError(f"the output has no end, it may be cut: {output[-200:]}")
    return Bundle.from_base64(found.group(1))
