"""`python -m sandbox.images build | list | push`: the images of the hotel's releases."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from sandbox.images import Image, build, push
from sandbox.kubernetes.description import Cluster
from sandbox.settings import SandboxError


def main(words: list[str] | None = None) -> int:
    """1 when something is missing or refused."""
    given = _parser().parse_args(words)
    begin = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - begin:5.1f} s  {line}", file=sys.stderr, flush=True)

    try:
        images = build(tell)
        if given.action == "push":
            url, user, password = _registry(given)
            tell(f"{push(images, url, user, password, tell)} blobs and manifests sent")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    _print(images)
    return 0


def _registry(given: argparse.Namespace) -> tuple[str, str, str]:
    if given.cluster:
        cluster = Cluster.read(given.cluster)
        return cluster.registry_url, cluster.registry_user, cluster.registry_password
    return given.url, given.user, sys.stdin.readline().rstrip("\n")


def _print(images: list[Image]) -> None:
    for image in images:
        print(f"{image.repository}:{image.tag} {image.digest}")
    print(f"OCI layout: {images[0].layout}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.images", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("build", help="make every image unless it is cached")
    actions.add_parser("list", help="names and digests; makes what is missing")
    to = actions.add_parser("push", help="build, then send what the registry does not have")
    where = to.add_mutually_exclusive_group(required=True)
    where.add_argument("--cluster", type=Path, metavar="FILE", help="cluster.json of a running cluster")
    where.add_argument("--url", help="address of a registry; the password is read from standard input")
    to.add_argument("--user", default="deployer", help="with --url")
    return parser


if __name__ == "__main__":
    sys.exit(main())
