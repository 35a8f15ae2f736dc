"""The files that a node's components read, and the commands that start them: pure text, from addresses alone.

All paths are those inside of the node, where its folder is mounted at `NODE` whatever its path on the machine.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import yaml

from sandbox.kubernetes.addresses import Addresses
from sandbox.kubernetes.certificates import Pair
from sandbox.kubernetes.description import AUDIT
from sandbox.kubernetes.init import BIN, NODE

NAME = "node"
"""Of the node, as the API knows it."""
MIRRORED = ("ghcr.io", "registry.example.com")
"""Registries whose images come from the cluster's own."""
PAUSE = "docker.io/local/pause:1"
ETC = f"{NODE}/etc"
CONTAINERD = "unix:///run/containerd/containerd.sock"
ETCD = "http://127.0.0.1:2379"
ISSUER = "https://kubernetes.default.svc.cluster.local"


def kubeconfig(server: str, authority: bytes, client: Pair) -> str:
    """Complete in itself: nothing in it names another file."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pms",
        "clusters": [{"name": "pms", "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}],
        "users": [
            {
                "name": "pms",
                "user": {
                    "client-certificate-data": _base64(client.certificate),
                    "client-key-data": _base64(client.key),
                },
            }
        ],
        "contexts": [{"name": "pms", "context": {"cluster": "pms", "user": "pms"}}],
    }
    return yaml.safe_dump(content, sort_keys=False)


def audit() -> str:
    """What service accounts ask in the sandbox's namespaces is written down, each request once."""
    content = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "Metadata", "namespaces": ["production", "staging"], "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    }
    return yaml.safe_dump(content, sort_keys=False)


def kubelet(addresses: Addresses) -> str:
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{ETC}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{ETC}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{ETC}/kubelet-server.key",
        "containerRuntimeEndpoint": CONTAINERD,
        "resolvConf": f"{ETC}/resolv.conf",
        "clusterDomain": "cluster.local",
        "clusterDNS": [addresses.node],
        # Our own root for pods, so that two nodes, and whatever else runs here, keep apart.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{addresses.cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        # A negative value needs CAP_SYS_RESOURCE, which containers often lack.
        "oomScoreAdj": 0,
        # The disk and the memory are shared with the machine: how full they are says nothing about the pods.
        "evictionHard": {
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageMaximumGCAge": "0s",
        "registryPullQPS": 0,
        "serializeImagePulls": False,
        "enableDebuggingHandlers": True,
    }
    return yaml.safe_dump(content, sort_keys=False)


def containerd(addresses: Addresses) -> str:
    cri = "plugins.'io.containerd.cri.v1"
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "/run/containerd/containerd.sock"

[{cri}.images']
snapshotter = "overlayfs"

[{cri}.images'.pinned_images]
sandbox = "{PAUSE}"

[{cri}.images'.registry]
config_path = "{ETC}/mirrors"

[{cri}.runtime']
# A negative oom_score_adj needs CAP_SYS_RESOURCE, which containers often lack.
restrict_oom_score_adj = true
# A profile would be loaded into the machine's kernel, and stay there.
disable_apparmor = true
tolerate_missing_hugetlb_controller = true

[{cri}.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.runtime'.containerd.runtimes.runc.options]
BinaryName = "{BIN}/runc"
SystemdCgroup = false

[{cri}.runtime'.cni]
bin_dirs = ["{BIN}"]
conf_dir = "{ETC}/cni"
"""


def mirror(addresses: Addresses, user: str, password: str) -> str:
    """containerd's hosts.toml: every image of a mirrored registry comes from ours, and from nowhere else."""
    credentials = _base64(f"{user}:{password}".encode())
    return f"""server = "{addresses.registry}"

[host."{addresses.registry}"]
capabilities = ["pull", "resolve"]

[host."{addresses.registry}".header]
Authorization = "Basic {credentials}"
"""


def pod_network(addresses: Addresses) -> str:
    # No masquerading: all pods talk to is within reach of their own addresses.
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": addresses.pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}, indent=2)


def registry(addresses: Addresses, secret: str) -> str:
    content = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": "/var/lib/registry"},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"{addresses.node}:5000", "secret": secret},
        "auth": {"htpasswd": {"realm": "sandbox", "path": f"{ETC}/htpasswd"}},
    }
    return yaml.safe_dump(content, sort_keys=False)


def init_spec(addresses: Addresses, binaries: str, node: str) -> dict[str, Any]:
    """What `init.py` reads."""
    return {
        "binaries": binaries,
        "node": node,
        "address": addresses.node,
        "gateway": addresses.host,
        "components": commands(addresses),
    }


def commands(addresses: Addresses) -> dict[str, list[str]]:
    """The command of every component."""
    arguments = {
        "etcd": _etcd(),
        "containerd": [f"--config={ETC}/containerd.toml"],
        "registry": ["serve", f"{ETC}/registry.yaml"],
        "kube-apiserver": _api_server(addresses),
        "kube-controller-manager": _controller_manager(),
        "kube-scheduler": [f"--kubeconfig={ETC}/kube-scheduler.kubeconfig", "--leader-elect=false", *_LOCAL],
        "kubelet": [
            f"--config={ETC}/kubelet.yaml",
            f"--kubeconfig={ETC}/kubelet.kubeconfig",
            f"--node-ip={addresses.node}",
            f"--hostname-override={NAME}",
        ],
        "kube-proxy": _proxy(addresses),
    }
    return {name: [f"{BIN}/{name}", *given] for name, given in arguments.items()}


_LOCAL = ["--bind-address=127.0.0.1", "--profiling=false"]


def _etcd() -> list[str]:
    peer = "http://127.0.0.1:2380"
    return [
        f"--name={NAME}", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=warn",
        f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster={NAME}={peer}",
    ]  # fmt: skip


def _api_server(addresses: Addresses) -> list[str]:
    return [
        f"--advertise-address={addresses.node}", f"--bind-address={addresses.node}", "--secure-port=6443",
        f"--etcd-servers={ETCD}", f"--service-cluster-ip-range={addresses.services}",
        f"--tls-cert-file={ETC}/api-server.crt", f"--tls-private-key-file={ETC}/api-server.key",
        f"--client-ca-file={ETC}/ca.crt",
        f"--kubelet-client-certificate={ETC}/api-to-kubelet.crt",
        f"--kubelet-client-key={ETC}/api-to-kubelet.key",
        f"--kubelet-certificate-authority={ETC}/ca.crt", "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={ISSUER}", f"--service-account-key-file={ETC}/service-accounts.pub",
        f"--service-account-signing-key-file={ETC}/service-accounts.key",
        f"--audit-policy-file={ETC}/audit.yaml", f"--audit-log-path={NODE}/logs/{AUDIT}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--profiling=false",
    ]  # fmt: skip


def _controller_manager() -> list[str]:
    return [
        f"--kubeconfig={ETC}/kube-controller-manager.kubeconfig", "--leader-elect=false",
        f"--root-ca-file={ETC}/ca.crt", f"--service-account-private-key-file={ETC}/service-accounts.key",
        "--use-service-account-credentials=true", "--allocate-node-cidrs=false", *_LOCAL,
    ]  # fmt: skip


def _proxy(addresses: Addresses) -> list[str]:
    # All that kube-proxy would set for the whole machine is switched off (0) or left alone.
    return [
        f"--kubeconfig={ETC}/kube-proxy.kubeconfig", f"--hostname-override={NAME}", "--proxy-mode=iptables",
        f"--cluster-cidr={addresses.pods}", "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0", "--oom-score-adj=0",
    ]  # fmt: skip


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
