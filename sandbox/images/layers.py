"""Layers of images: tar archives that are the same bytes whenever their content is the same."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

TIME = 1_767_225_600
"""Modification time of everything (2026-01-01): a time of the build would make another digest each time."""
LEVEL = 4
"""Of gzip: 6, the default, takes twice as long and saves three percent."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """A compressed archive in a folder. Digests are written as `sha256:...`."""

    blob: str
    """Path of the file."""
    digest: str
    diff_id: str
    """Digest of the archive before it was compressed."""
    size: int
    """Bytes, compressed."""

    def write(self, folder: Path) -> None:
        """Put the description next to the blob; its path is kept relative to the folder."""
        described = {**asdict(self), "blob": Path(self.blob).name}
        (folder / "layer.json").write_text(json.dumps(described))

    @classmethod
    def read(cls, folder: Path) -> Layer:
        described = json.loads((folder / "layer.json").read_text())
        return cls(**{**described, "blob": str(folder / described["blob"])})


def of_tree(tree: Path, folder: Path) -> Layer:
    """A layer with what is below `tree`, owned by root; the blob is written into `folder`."""
    archive = folder / "layer.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(tree.rglob("*"), key=lambda path: path.relative_to(tree).parts):
            _add(tar, path, path.relative_to(tree).as_posix())
    layer = of_archive(archive, folder)
    archive.unlink()
    return layer


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime = TIME
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
        tar.addfile(entry)
    elif stat.S_ISDIR(found.st_mode):
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
    else:
        entry.size, entry.mode = found.st_size, 0o755 if found.st_mode & 0o100 else 0o644
        with path.open("rb") as content:
            tar.addfile(entry, content)


def of_archive(archive: Path, folder: Path) -> Layer:
    """A layer of a tar archive that is reproducible already."""
    plain, blob = hashlib.sha256(), folder / "layer.tar.gz"
    with (
        archive.open("rb") as source,
        blob.open("wb") as target,
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=target, mtime=0) as packed,
    ):
        while chunk := source.read(_CHUNK):
            plain.update(chunk)
            packed.write(chunk)
    with blob.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    layer = Layer(str(blob), f"sha256:{digest}", f"sha256:{plain.hexdigest()}", blob.stat().st_size)
    layer.write(folder)
    return layer
