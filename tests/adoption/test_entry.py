"""The address that clients use is that of this Service, and of no other in the same Ingress."""

from __future__ import annotations

import json

import pytest

from handover.adoption import drafting
from handover.adoption.findings import find
from tests.adoption.objects import INGRESS, SERVICE, changed
from tests.adoption.test_findings import seen


def rule(host, service, *paths):
    backend = {"backend": {"service": {"name": service}}}
    return {"host": host, "http": {"paths": [backend | {"path": path} for path in paths or ("/",)]}}


def ingress(*rules, name="shop", annotations=(), **spec):
    return {"metadata": {"name": name, "annotations": dict(annotations)}, "spec": {"rules": list(rules), **spec}}


ADMIN, SHOP = rule("admin.example.com", "admin"), rule("shop.example.com", "web")
SHOP_URL, WITHIN = "http://shop.example.com", "http://web.shop.svc:80"
ARN = {"alb.ingress.kubernetes.io/certificate-arn": "arn:aws:acm:1"}


@pytest.mark.parametrize(("ingresses", "address"), [
    pytest.param([INGRESS], SHOP_URL, id="one_host"),
    pytest.param([ingress(ADMIN, SHOP)], SHOP_URL, id="another_services_host_first"),
    pytest.param([ingress(rule("shop.example.com", "admin"), SHOP)], SHOP_URL, id="host_twice"),
    pytest.param([ingress(rule("a.example.com", "web", "/shop"), SHOP)], SHOP_URL, id="all_paths_first"),
    pytest.param([ingress(rule("a.example.com", "web", "/shop/"))], "http://a.example.com/shop", id="path"),
    pytest.param([ingress(rule("a.example.com", "web", "/shop(/|$)(.*)"))], "http://a.example.com/shop", id="pattern"),
    pytest.param([ingress(rule("a.example.com", "web", "/*"))], "http://a.example.com", id="alb_every_path"),
    pytest.param([ingress(rule("*.example.com", "web"))], WITHIN, id="wildcard"),
    pytest.param([ingress(rule("*.example.com", "web"), SHOP)], SHOP_URL, id="wildcard_first"),
    pytest.param([ingress(ADMIN, defaultBackend={"service": {"name": "web"}})], WITHIN, id="default"),
    pytest.param([ingress(SHOP, tls=[{"hosts": ["admin.example.com"]}])], SHOP_URL, id="other_hosts_tls"),
    pytest.param([ingress(SHOP, tls=[{"hosts": ["shop.example.com"]}])], "https://shop.example.com", id="tls"),
    pytest.param([ingress(SHOP, tls=[{"hosts": ["*.example.com"]}])], "https://shop.example.com", id="wildcard_tls"),
    pytest.param([ingress(SHOP, tls=[{"secretName": "t"}])], "https://shop.example.com", id="tls_of_every_host"),
    pytest.param([ingress(SHOP, annotations=ARN)], "https://shop.example.com", id="certificate_of_the_load_balancer"),
])  # fmt: skip
def test_the_address_is_a_host_that_leads_to_this_service(ingresses, address):
    found = find(seen(ingresses=ingresses))
    assert found.address == address
    assert json.loads(drafting.connections(found, "web", "/k"))["web_api"]["host"] == address


@pytest.mark.parametrize(("ingresses", "note"), [
    ([ingress(ADMIN, SHOP)], "Ingress shop leads to it (shop.example.com): traffic.api_connection is that address."),
    ([ingress(rule("*.example.com", "web"))], "no single host is named: write one"),
    ([ingress(ADMIN, defaultBackend={"service": {"name": "web"}})], "no single host is named: write one"),
    ([ingress(rule("a.example.com", "web", "/shop"))], "only what begins with /shop is sent to it"),
], ids=["its_own_host", "wildcard", "every_host", "path"])  # fmt: skip
def test_what_a_person_has_to_look_at_is_said(ingresses, note):
    said = " ".join(find(seen(ingresses=ingresses)).notes)
    assert note in said
    assert "admin.example.com" not in said


@pytest.mark.parametrize(("given", "port", "address"), [
    ({"ip": "192.0.2.1"}, {"port": 80}, "http://192.0.2.1:80"),
    ({"ip": "2001:db8::1"}, {"port": 80}, "http://[2001:db8::1]:80"),
    ({"hostname": "x.elb.example.com"}, {"port": 443}, "https://x.elb.example.com:443"),
    ({"hostname": "x.elb.example.com"}, {"port": 8443, "name": "https"}, "https://x.elb.example.com:8443"),
], ids=["ipv4", "ipv6", "port_of_https", "named_https"])  # fmt: skip
def test_the_address_of_a_load_balancer(given, port, address):
    service = changed(SERVICE, "spec.ports", [port | {"targetPort": "http"}])
    found = find(seen(service | {"status": {"loadBalancer": {"ingress": [given]}}}))
    assert found.address == address
