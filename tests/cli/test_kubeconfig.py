"""Every command that asks a cluster, with a kubeconfig that is not as it should be: one line and its exit code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from handover import __main__
from handover.cli import traffic

GOOD: dict[str, Any] = {
    "clusters": [{"name": "there", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "ada", "user": {"token": "sesame"}}],
    "contexts": [{"name": "home", "context": {"cluster": "there", "user": "ada"}}],
    "current-context": "home",
}


def with_user(**user: Any) -> dict[str, Any]:
    return {**GOOD, "users": [{"name": "ada", "user": user}]}


def with_cluster(**cluster: Any) -> dict[str, Any]:
    return {**GOOD, "clusters": [{"name": "there", "cluster": cluster}]}


WRONG: list[tuple[Any, str]] = [
    ("", "it has no current context"),
    ("\t", "it is no YAML"),
    ("a: [sesame", "it is no YAML"),
    (b"\xff\xfe\x00", "it is no text"),
    ("[]", "it is no kubeconfig but a list"),
    ({**GOOD, "current-context": ""}, "it has no current context; there are home: say which"),
    ({**GOOD, "current-context": "nowhere"}, "it has no context nowhere"),
    ({**GOOD, "clusters": []}, "context home is of the cluster there, which is not there"),
    ({**GOOD, "users": "sesame"}, "users is not a list"),
    (with_cluster(), "cluster there has no server"),
    (with_cluster(server="https://127.0.0.1:99999"), "cluster there: its server is no address"),
    (with_cluster(server="https://127.0.0.1:1", **{"certificate-authority": "ca"}), "/ca: No such file"),
    (with_cluster(server="https://127.0.0.1:1", **{"certificate-authority-data": "c2VzYW1l"}),
     "certificate-authority of https://127.0.0.1:1 cannot be read"),
    (with_cluster(server="http://there", **{"proxy-url": "socks5://p"}), "only http, https are known: name a proxy"),
    (with_user(**{"client-certificate": "c.pem", "client-key": "k.pem"}), "/c.pem: No such file"),
    (with_user(**{"auth-provider": {"name": "magic"}}), "nobody knows its auth-provider magic any more"),
    (with_user(exec={"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}), "cannot be run"),
    (with_user(exec={"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}), "an apiVersion"),
    (with_user(token="two words"), "its token is none"),
]  # fmt: skip


PLAN = ["--plan", "include/plans/pms.yaml"]
ADOPTED = "{folder}/plans/pms.yaml"
COMMANDS = {
    "back": PLAN, "status": PLAN, "permissions": PLAN, "prepare": ["--plan", ADOPTED],
    "adopt": ["--namespace", "production", "--service", "web"],
}  # fmt: skip


@pytest.fixture
def arguments(tmp_path) -> Callable[[str], list[str]]:
    """Of a command; `prepare` finds what `adopt --write` leaves beside a plan."""
    preview = {
        "kind": "Service", "metadata": {"name": "pms-preview", "namespace": "production"},
        "spec": {"selector": {"app": "pms", "version": "blue"}},
    }  # fmt: skip
    (tmp_path / "plans").mkdir()
    shutil.copy("include/plans/pms.yaml", tmp_path / "plans")
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "pms-first.yaml").write_text(yaml.safe_dump(preview))
    return lambda command: [command, *(one.format(folder=tmp_path) for one in COMMANDS[command])]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("config", "said"), WRONG, ids=[said[:30] for _, said in WRONG])
def test_it_says_in_one_line_what_is_wrong_in_which_file(tmp_path, capsys, arguments, command, config, said):
    path = tmp_path / "config"
    text = config if isinstance(config, (bytes, str)) else yaml.safe_dump(config)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code = __main__.main([*arguments(command), "--kubeconfig", str(path)])
    out, error = capsys.readouterr()
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("failed: ") and said in error and str(path) in error
    assert "sesame" not in error and "Traceback" not in error


@pytest.mark.parametrize("command", COMMANDS)
def test_a_user_that_is_not_there_asks_as_nobody_and_a_context_may_be_said(tmp_path, capsys, arguments, command):
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump({**GOOD, "users": [], "current-context": ""}))
    asked = [*arguments(command), "--kubeconfig", str(path), "--context", "home"]
    assert __main__.main(asked) == 2
    error = capsys.readouterr().err
    assert "did not answer" in error and error.count("\n") == 1
    assert __main__.main([*asked[:-1], "away"]) == 2
    assert "it has no context away" in capsys.readouterr().err


def test_what_nobody_expected_is_no_refusal(capsys, monkeypatch):
    def broken(*_: Any) -> int:
        raise RuntimeError("sesame")

    monkeypatch.setattr(traffic, "main", broken)
    assert __main__.main(["back"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("failed: RuntimeError in ") and error.count("\n") == 1 and "sesame" not in error
