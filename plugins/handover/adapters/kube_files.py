"""Kubeconfig files as kubectl finds, merges and reads them: which cluster, and which user.

A file that is not as it should be is one line that names it; its own text is never told, for it holds secrets.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from handover.adapters.kube_access import NoAccess
from handover.plan.text import documents
from handover.ports.kube import Json

SECTIONS = {"contexts": "context", "clusters": "cluster", "users": "user"}
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
UNNAMED = "the kubeconfig"
"""What messages call one that is no file."""


class NoFile(NoAccess):
    """There is no kubeconfig at all."""


@dataclass(frozen=True)
class Kubeconfig:
    """One file. ``where``: what messages call it; ``sections``: of each kind by name."""

    where: str
    folder: Path
    current: str
    sections: dict[str, dict[str, Json]] = field(repr=False)

    @property
    def empty(self) -> bool:
        return not self.current and not any(self.sections.values())


@dataclass(frozen=True)
class Identity:
    """A cluster and a user as a kubeconfig has them. ``name``, ``cluster_name``: what messages call them."""

    cluster: Json
    user: Json = field(repr=False)
    name: str
    folder: Path = Path()
    """What the user's paths are relative to."""
    files: str = ""
    """Where it stands, as KUBECONFIG would name it."""
    context: str = ""
    user_file: str = ""
    cluster_file: str = ""
    cluster_name: str = "the cluster"

    def of_user(self, wrong: str) -> NoAccess:
        """What is wrong with the user, and in which file."""
        return NoAccess(": ".join(part for part in (self.user_file, self.name, wrong) if part))

    def of_cluster(self, wrong: str) -> NoAccess:
        return NoAccess(": ".join(part for part in (self.cluster_file, self.cluster_name, wrong) if part))


def found(path: str | None) -> list[Kubeconfig]:
    """By default the files that kubectl would read; of several those that are there. Raises `NoAccess`."""
    wanted = path or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    one = [wanted] if path and Path(path).exists() else wanted.split(os.pathsep)
    files = [Path(name).expanduser() for name in dict.fromkeys(one) if name]
    there = [file for file in files if file.exists()]
    if not there:
        raise NoFile(f"there is no kubeconfig: {wanted}")
    return [_read(file) for file in there]


def _read(file: Path) -> Kubeconfig:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoAccess(f"{file}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    return parsed(text, str(file), file.parent)


def parsed(config: object, where: str = UNNAMED, folder: Path = Path()) -> Kubeconfig:
    """Of the text of a kubeconfig, or of what such a text says. Raises `NoAccess`."""
    if isinstance(config, str):
        try:
            config = next(documents(config), None)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", None)
            raise NoAccess(f"{where}: it is no YAML" + (f" (line {line + 1})" if line is not None else "")) from None
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise NoAccess(f"{where}: it is no kubeconfig but {_kind(config)}")
    current = config.get("current-context") or ""
    if not isinstance(current, str):
        raise NoAccess(f"{where}: current-context is no text but {_kind(current)}")
    return Kubeconfig(where, folder, current, {kind: _section(config, kind, where) for kind in SECTIONS})


def _section(config: Json, kind: str, where: str) -> dict[str, Json]:
    items, by_name, of = config.get(kind) or [], {}, SECTIONS[kind]
    for item in items if isinstance(items, list) else [items]:
        name, body = (item.get("name"), item.get(of)) if isinstance(item, dict) else (None, None)
        if not isinstance(items, list) or not isinstance(name, str) or not isinstance(body or {}, dict):
            raise NoAccess(f"{where}: {kind} is not a list in which every item has a name and a {of}")
        if name in by_name:
            raise NoAccess(f"{where}: {kind} has {name} twice")
        by_name[name] = body or {}
    return by_name


def chosen(configs: Sequence[Kubeconfig], context: str | None = None) -> Identity:
    """The current context of one or more kubeconfigs; what comes first wins, and nothing is taken from two of one name.
    A user that is not there is nobody, as for kubectl. Raises `NoAccess`.
    """
    files = os.pathsep.join(one.where for one in configs)
    wanted = context or next((one.current for one in configs if one.current), "")
    if not wanted:
        names = ", ".join(dict.fromkeys(name for one in configs for name in one.sections["contexts"]))
        raise NoAccess(f"{files}: it has no current context" + (f"; there are {names}: say which" if names else ""))
    place, found_context = _named(configs, "contexts", wanted)
    if place is None:
        raise NoAccess(f"{files}: it has no context {wanted}")
    cluster_name, user_name = found_context.get("cluster"), found_context.get("user")
    its_cluster, cluster = _named(configs, "clusters", cluster_name)
    if its_cluster is None:
        raise NoAccess(
            f"{place.where}: context {wanted} is of the cluster {cluster_name or '(none)'}, which is not there"
        )
    if not cluster.get("server"):
        raise NoAccess(f"{its_cluster.where}: cluster {cluster_name} has no server")
    its_user, user = _named(configs, "users", user_name)
    return Identity(
        _absolute(cluster, its_cluster.folder), _absolute(user, its_user.folder) if its_user else {},
        f"user {user_name}" if its_user else "nobody", its_user.folder if its_user else Path(),
        files="" if its_cluster.where == UNNAMED else files, context=wanted,
        user_file=(its_user or place).where, cluster_file=its_cluster.where, cluster_name=f"cluster {cluster_name}",
    )  # fmt: skip


def _named(configs: Iterable[Kubeconfig], kind: str, name: Any) -> tuple[Kubeconfig | None, Json]:
    """The file that has it first, and what it says there."""
    for one in configs:
        if isinstance(name, str) and name in one.sections[kind]:
            return one, one.sections[kind][name]
    return None, {}


def _absolute(section: Json, folder: Path) -> Json:
    """Paths in a kubeconfig are relative to the file."""
    return {key: str(folder / str(value)) if key in _PATHS and value else value for key, value in section.items()}


def _kind(value: object) -> str:
    return {list: "a list", str: "a text", bool: "a yes or no", int: "a number", float: "a number"}.get(
        type(value), f"a {type(value).__name__}"
    )
