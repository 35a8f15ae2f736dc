"""Real OCI images of the hotel's releases, made of Debian, npm and Python packages without pulling any image.

`build` makes them once and keeps them in the user's cache folder, `push` puts them into a registry. The Prisma in
them is the real one; only its native schema engine, which no package registry has, is replaced by
`prisma/schema-engine.mjs`.
"""

from __future__ import annotations

from sandbox.images.base import requirements
from sandbox.images.layout import Image
from sandbox.images.push import push
from sandbox.images.releases import build

__all__ = ["Image", "build", "push", "requirements"]
