"""Through which proxy a cluster is asked: as Go's programs, so kubectl, read the environment."""

from __future__ import annotations

import asyncio

import pytest

from handover.adapters.kube_proxy import proxy_for
from handover.adapters.kube_users import access_from_text
from tests.adapters.test_kube_users import kubeconfig


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("https://there:6443", {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://there:6443", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("https://there:6443", {"HTTP_PROXY": "http://p:3128"}, ""),
        ("http://there", {"HTTP_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:3128"}, ""),
        ("https://[::1]:6443", {"HTTPS_PROXY": "http://p:3128"}, ""),
        ("https://localhost", {"HTTPS_PROXY": "http://p:3128"}, ""),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "a.com, 10.0.0.0/8"}, ""),
        ("https://11.1.2.3", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "10.0.0.0/8,x/y"}, "http://p:3128"),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "10.1.2.3"}, ""),
        ("https://k.a.com", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "a.com"}, ""),
        ("https://k.a.com", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "*.a.com"}, ""),
        ("https://a.com", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": ".a.com"}, "http://p:3128"),
        ("https://ka.com", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "a.com"}, "http://p:3128"),
        ("https://a.com:6443", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "a.com:443"}, "http://p:3128"),
        ("https://a.com:6443", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "a.com:6443"}, ""),
        ("https://there", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "*"}, ""),
    ],
)
def test_a_proxy_of_the_environment_is_used_as_by_kubectl(monkeypatch, server, environment, proxy):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(server) == proxy


def test_the_kubeconfigs_own_proxy_wins(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://p:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert asyncio.run(access_from_text(kubeconfig({}))).proxy == "http://p:3128"
    assert asyncio.run(access_from_text(kubeconfig({}, {"proxy-url": "http://mine"}))).proxy == "http://mine"
