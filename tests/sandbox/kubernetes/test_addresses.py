"""The addresses of a cluster, and which of them the machine has given to others."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import combinations

import pytest

from sandbox.kubernetes.addresses import NUMBERS, ROUTE_PROTOCOL, Addresses, strangers

OURS = Addresses(207)


def test_the_parts_lie_within_the_network_and_apart_from_each_other():
    parts = [ip_network(part) for part in (OURS.host_services, f"{OURS.host}/32", OURS.services, OURS.pods)]
    assert all(part.subnet_of(ip_network(OURS.network)) for part in parts)
    assert not any(one.overlaps(other) for one, other in combinations(parts, 2))
    assert ip_address(OURS.host_prefix + ".1") in ip_network(OURS.host_services)


def test_host_and_node_share_a_link_of_two():
    link = ip_network(f"{OURS.host}/30", strict=False)
    assert [ip_address(OURS.host), ip_address(OURS.node)] == list(link.hosts())


def test_the_api_is_the_first_address_of_the_services():
    assert ip_address(OURS.api_service) == next(ip_network(OURS.services).hosts())


def test_no_two_clusters_share_an_address_or_a_name():
    every = [Addresses(number) for number in NUMBERS]
    assert len({one.network for one in every}) == len({one.link for one in every}) == len(every)
    assert all(len(one.link) <= 15 for one in every)  # the kernel's limit


@pytest.mark.parametrize(
    "taken",
    [
        {"dst": "10.0.0.0/8", "dev": "tun0"},
        {"dst": "10.207.3.0/24", "dev": "eth1", "protocol": "kernel"},
        {"dst": "10.207.0.9", "dev": "lo", "type": "local"},
        {"dst": "10.207.128.0/20", "dev": "eth0", "protocol": "static"},
    ],
)
def test_a_route_of_somebody_else_takes_the_number(taken):
    assert len(strangers([taken], OURS)) == 1


@pytest.mark.parametrize(
    "harmless",
    [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "10.208.0.0/16", "dev": "eth0"},
        {"dst": OURS.services, "dev": OURS.link, "protocol": ROUTE_PROTOCOL},
        {"dst": "10.207.64.0/30", "dev": OURS.link, "protocol": "kernel"},
    ],
)
def test_other_networks_and_what_a_dead_cluster_left_do_not(harmless):
    assert strangers([harmless], OURS) == []
