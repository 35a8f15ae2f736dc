"""A stand-in for Trivy that keeps its contract: ``trivy image [--severity S,S] [--exit-code N] IMAGE``.

What it "finds" stands in the annotation `pms.sandbox/vulnerabilities` of the image's manifest, as ``SEVERITY:ID``
separated by commas. As with Trivy, exit code 0 means nothing found (or no ``--exit-code``), N means found, 1 means that
it could not look; TRIVY_USERNAME and TRIVY_PASSWORD are the registry's login. REGISTRY_MIRROR is the address of the
registry that has the images, whatever host their names begin with. One file of the standard library: an image needs
nothing else.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request

ANNOTATION = "pms.sandbox/vulnerabilities"
SEVERITIES = ("UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")
TIMEOUT_SECONDS = 10
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"


class Fatal(Exception):
    """It cannot look."""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        severities = _severities(arguments.severity)
        found = [f for f in findings(arguments.image) if f.partition(":")[0] in severities]
    except Fatal as error:
        print(f"FATAL\tFatal error\timage scan error: {error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{s}: {sum(f.startswith(f'{s}:') for f in found)}" for s in severities)
    print(f"{arguments.image} (stand-in)\nTotal: {len(found)} ({counts})")
    for one in found:
        severity, _, name = one.partition(":")
        print(f"{name} {severity}")
    return arguments.exit_code if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trivy", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version="Version: stand-in")
    image = parser.add_subparsers(required=True).add_parser("image", allow_abbrev=False)
    image.add_argument("--severity", default=",".join(SEVERITIES))
    image.add_argument("--exit-code", type=int, default=0)
    image.add_argument("image")
    return parser


def _severities(text: str) -> list[str]:
    wanted = text.upper().split(",")
    if unknown := [one for one in wanted if one not in SEVERITIES]:
        raise Fatal(f"unknown severity option: {', '.join(unknown)}")
    return [one for one in SEVERITIES if one in wanted]


def findings(image: str) -> list[str]:
    """The annotation of the image's manifest. Raises `Fatal`."""
    noted = manifest(image).get("annotations", {}).get(ANNOTATION, "")
    return [one.strip() for one in noted.split(",") if one.strip()]


def manifest(image: str) -> dict:  # type: ignore[type-arg]
    """Asks the registry. Raises `Fatal`."""
    name, _, digest = image.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    host, _, path = f"{head}{slash}{last}".partition("/")
    base = os.environ.get("REGISTRY_MIRROR", f"https://{host}").rstrip("/")
    request = urllib.request.Request(f"{base}/v2/{path}/manifests/{digest or tag or 'latest'}")
    request.add_header("Accept", MANIFESTS)
    if user := os.environ.get("TRIVY_USERNAME"):
        login = f"{user}:{os.environ.get('TRIVY_PASSWORD', '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return dict(json.load(answer))
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Fatal(f"unable to find the specified image {image!r} in the registry: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
