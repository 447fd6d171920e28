"""Ports for networks that are made together."""

import socket

import pytest

from flashflow.model.errors import LocalError
from flashflow.testnet import ports
from flashflow.testnet.ports import free_ports


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_port_is_given_twice_or_in_use(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [taken] = free_ports(host, 1)
    monkeypatch.setattr(ports, "_given", set())
    monkeypatch.setattr(ports, "PORTS", range(taken, taken + 40))
    with socket.create_server((host, taken), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
        given = free_ports(host, 5) + free_ports(host, 5)
        assert len(set(given)) == 10
        assert taken not in given


def test_too_few_free_ports_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_is_free", lambda host, port: False)
    with pytest.raises(LocalError, match=r"127\.0\.0\.1: 3 free ports expected between 12000 and 32000"):
        free_ports("127.0.0.1", 3)
