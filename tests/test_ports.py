"""A port that is free when it is chosen and still free when the server is started there."""

import socket

import pytest

from flows.server import held_port


def test_a_held_port_is_given_to_nobody_else_and_a_server_can_listen_at_it():
    """It was let go as soon as it was known, and whoever came first had it: another test, another run."""
    with held_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        given = set()
        for _ in range(300):
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                given.add(other.getsockname()[1])
        assert port not in given
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
            assert server.accept()
