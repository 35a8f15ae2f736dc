"""Section `image` of the plan: the release's image, and the programs that make and examine it (plan 2.2)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from handover.models.image_reference import ImageReference
from handover.plan.parts import Command, ConnectionId, SecretName, Section
from handover.plan.placeholders import ReleaseName, filled


def _image(text: str) -> str:
    ImageReference.parse(text)
    return text


def _repository(text: str) -> str:
    if (found := ImageReference.parse(text)).repository != text:
        raise ValueError(f"a repository has no tag and no digest: write {found.repository}")
    return text


class ImageJob(Section):
    """A program that makes or examines the release's image, as a Job. It gets none of the application's settings.

    ``{image}`` and ``{version}`` in ``command`` are filled in.
    """

    image: Annotated[str, AfterValidator(_image)]
    """The image that has the program, with a tag or a digest."""
    command: Command
    env_secret: SecretName | None = None
    """A Secret whose keys are the program's environment, such as credentials."""


class ImageCheck(ImageJob):
    """Examines ``{image}``, which is given by digest. Exit code 0 is a pass, any other refuses the release."""

    fails_with: Annotated[tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(min_length=1)] = (1,)
    """Exit codes that mean "looked, and found something"; any other one means that there is no answer."""

    @model_validator(mode="after")
    def _names_the_image(self) -> ImageCheck:
        if not any("{image}" in part for part in self.command):
            raise ValueError("the command examines no image: write {image} where the program takes it")
        return self


class Image(Section):
    repository: Annotated[str, AfterValidator(_repository)]
    tag: ReleaseName = "{version}"
    """Of a release; ``{number}`` is its version without the v."""
    connection: ConnectionId
    pull_secret: SecretName | None = None
    """A Secret of type kubernetes.io/dockerconfigjson: pods get their image with it, and image Jobs their login."""
    build: ImageJob | None = None
    """Makes ``{image}`` and pushes it. Without: what CI has pushed is verified and pinned."""
    scan: ImageCheck | None = None
    signature: ImageCheck | None = None

    def of(self, version: str) -> str:
        """``repository:tag`` of a release."""
        return f"{self.repository}:{filled(self.tag, version=version)}"
