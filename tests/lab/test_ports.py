from __future__ import annotations

import socket
import sys

import pytest

from raftkv.lab.ports import LOOPBACK, hold_again, hold_ports, is_taken, port_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux only")


def close(*sockets: socket.socket) -> None:
    for each in sockets:
        each.close()


def test_two_clusters_never_hold_the_same_port() -> None:
    first, second = hold_ports(200), hold_ports(200)

    ports = [port_of(holder) for holder in first + second]
    close(*first, *second)

    assert len(set(ports)) == 400


def test_a_server_can_listen_on_a_held_port_and_nobody_answers_before() -> None:
    (holder,) = hold_ports(1)
    address = (LOOPBACK, port_of(holder))

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=2)
    server = socket.create_server(address)
    socket.create_connection(address, timeout=2).close()

    close(server, holder)


def test_a_held_port_is_refused_to_whoever_does_not_share() -> None:
    (holder,) = hold_ports(1)

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((LOOPBACK, port_of(holder)))

    close(holder)


def test_ports_are_held_again_except_those_in_use() -> None:
    first, second = hold_ports(2)
    ports = [port_of(first), port_of(second)]
    close(first, second)
    server = socket.create_server((LOOPBACK, ports[0]))

    held = hold_again(ports)

    assert [port_of(holder) for holder in held] == [ports[1]]
    assert is_taken(ports[0])
    assert not is_taken(ports[1])
    close(server, *held)
