"""The files and commands of a node, as text."""

from __future__ import annotations

import base64
import json
import tomllib

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sandbox.kubernetes import config
from sandbox.kubernetes.addresses import Addresses
from sandbox.kubernetes.certificates import Authority
from sandbox.kubernetes.processes import COMPONENTS

OURS = Addresses(207)


def test_every_component_has_a_command_with_a_path_inside_of_the_node():
    commands = config.commands(OURS)
    assert set(commands) == set(COMPONENTS)
    assert {argv[0] for argv in commands.values()} == {f"/run/pms/bin/{name}" for name in COMPONENTS}


def test_no_secret_stands_in_a_command():
    every = " ".join(part for argv in config.commands(OURS).values() for part in argv)
    assert "password" not in every and "PRIVATE" not in every


def test_what_others_would_take_for_the_whole_machine_is_this_clusters_alone():
    kubelet = yaml.safe_load(config.kubelet(OURS))
    assert kubelet["cgroupRoot"] == "/pms-207" and kubelet["address"] == OURS.node
    assert "--conntrack-max-per-core=0" in config.commands(OURS)["kube-proxy"]
    runtime = tomllib.loads(config.containerd(OURS))["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["disable_apparmor"] and runtime["restrict_oom_score_adj"]


def test_pods_get_addresses_that_no_service_has():
    plugin = json.loads(config.pod_network(OURS))["plugins"][0]
    assert plugin["ipam"]["ranges"] == [[{"subnet": OURS.pods}]]
    assert f"--service-cluster-ip-range={OURS.services}" in config.commands(OURS)["kube-apiserver"]


def test_a_mirror_falls_back_to_nobody_and_shows_its_credentials_to_ours_alone():
    mirror = tomllib.loads(config.mirror(OURS, "deployer", "secret"))
    assert mirror["server"] == OURS.registry and list(mirror["host"]) == [OURS.registry]
    header = mirror["host"][OURS.registry]["header"]["Authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")) == b"deployer:secret"


def test_the_registry_can_delete_and_asks_for_a_password():
    registry = yaml.safe_load(config.registry(OURS, "secret"))
    assert registry["storage"]["delete"]["enabled"] and registry["auth"]["htpasswd"]
    assert registry["http"]["addr"] == f"{OURS.node}:5000"


def test_a_kubeconfig_is_complete_in_itself():
    authority = Authority()
    pair = authority.client("system:node:node", ["system:nodes"])
    content = yaml.safe_load(config.kubeconfig(OURS.api, authority.certificate, pair))
    user, cluster = content["users"][0]["user"], content["clusters"][0]["cluster"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    key = load_pem_private_key(base64.b64decode(user["client-key-data"]), None)
    assert key.public_key() == certificate.public_key()
    assert certificate.subject.rfc4514_string() == "CN=system:node:node,O=system:nodes"
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate(base64.b64decode(cluster["certificate-authority-data"]))
    )


def test_a_server_cannot_pass_for_a_client():
    pair = Authority().server("node", [OURS.node], ["node"])
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one.value) for one in names] == [OURS.node, "node"]
