"""Lays the releases out as image folders and writes the catalogue: `python -m sandbox.hotel.build --out DIR`.

A folder per release with what its container finds in its work folder: `prisma/migrations`, `package.json`, `bin/npm`.
The code itself is this repository's, told by its environment which release it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from sandbox.hotel.releases import MIGRATIONS, RELEASES, Release

REPOSITORY = "ghcr.io/ai-hotel/pms"
TOOLS = "ghcr.io/ai-hotel/release-tools"
TRIVY = Path(__file__).with_name("trivy.py")
VULNERABILITIES = "pms.sandbox/vulnerabilities"
"""Annotation of a manifest: what the stand-in for a scanner finds in the image, separated by commas."""
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ROOT = Path(__file__).resolve().parents[2]

_NPM = """#!/bin/sh
# The few scripts this image has; not the npm of Node.
PYTHONPATH="{root}${{PYTHONPATH:+:$PYTHONPATH}}" exec "{python}" -m sandbox.hotel.scripts "$@"
"""


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def config_bytes(entry: dict[str, Any]) -> bytes:
    """The image's configuration blob, made of the catalogue's entry alone."""
    environment = [f"{key}={value}" for key, value in sorted(entry["env"].items())]
    return _canonical(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Cmd": entry["argv"], "WorkingDir": entry["workdir"],
                "Env": [*environment, "PATH=" + ":".join(entry["path"])],
                "Labels": {"org.opencontainers.image.version": entry["tag"]},
            },
            "rootfs": {"type": "layers", "diff_ids": [entry["env"]["PMS_BUILD"]]},
        }
    )  # fmt: skip


def manifest_bytes(entry: dict[str, Any]) -> bytes:
    """The image's manifest, as a registry serves it; its SHA-256 is the entry's digest."""
    config = config_bytes(entry)
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": _sha256(config), "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": entry["env"]["PMS_BUILD"], "size": 0,
                }
            ],
            "annotations": {"org.opencontainers.image.version": entry["tag"]} | entry.get("annotations", {}),
        }
    )  # fmt: skip


def _build_id(release: Release) -> str:
    """Hash of what the release is made of, so that other code gets another digest."""
    digest = hashlib.sha256(repr(release).encode())
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    scripts = [MIGRATIONS / name / file for name in release.migrations for file in ("migration.sql", "down.sql")]
    for path in [*sources, *scripts]:
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return "sha256:" + digest.hexdigest()


def _lay_out(release: Release, folder: Path) -> None:
    """Write a release's work folder, replacing what an earlier build left."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    for name in release.migrations:
        shutil.copytree(MIGRATIONS / name, folder / "prisma" / "migrations" / name)
    (folder / "prisma" / "migrations" / "migration_lock.toml").write_text('provider = "postgresql"\n')
    package = {"name": "pms", "version": release.tag.removeprefix("v"), "private": True}
    (folder / "package.json").write_text(json.dumps(package, indent=2) + "\n")
    npm = folder / "bin" / "npm"
    npm.write_text(_NPM.format(root=ROOT, python=sys.executable))
    npm.chmod(0o755)


def _tools(folder: Path) -> dict[str, Any]:
    """The image with the programs that examine a release."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    trivy = folder / "bin" / "trivy"
    trivy.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TRIVY}" "$@"\n')
    trivy.chmod(0o755)
    return {
        "repository": TOOLS, "tag": "v1", "argv": ["trivy", "--version"], "workdir": str(folder),
        "env": {"PMS_BUILD": _sha256(TRIVY.read_bytes())}, "path": [str(folder / "bin")],
    }  # fmt: skip


def build(out: Path) -> dict[str, Any]:
    """Build every release below `out` and write `out/images.json`; returns the catalogue."""
    out = out.resolve()
    images = []
    for release in RELEASES:
        folder = out / release.tag
        _lay_out(release, folder)
        entry: dict[str, Any] = {
            "repository": REPOSITORY,
            "tag": release.tag,
            "argv": [sys.executable, "-m", "sandbox.hotel"],
            "workdir": str(folder),
            "env": {
                "PYTHONPATH": str(ROOT),
                "PMS_VERSION": release.tag,
                "PMS_FAULT": release.fault,
                "PMS_BUILD": _build_id(release),
            },
            "path": [str(folder / "bin")],
        }
        if release.vulnerabilities:
            entry["annotations"] = {VULNERABILITIES: ",".join(release.vulnerabilities)}
        images.append(entry)
    images.append(_tools(out / "release-tools"))
    for entry in images:
        entry["digest"] = _sha256(manifest_bytes(entry))
    catalogue = {"images": images}
    draft = out / "images.json.new"
    draft.write_text(json.dumps(catalogue, indent=2) + "\n")
    os.replace(draft, out / "images.json")
    return catalogue


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.hotel.build", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for entry in build(parser.parse_args().out)["images"]:
        print(entry["tag"], entry["digest"])


if __name__ == "__main__":
    main()
