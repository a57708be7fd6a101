import socket

import pytest

from hf_fusion.deployment.addresses import reserve_address


def test_connections_are_refused_until_it_listens():
    with reserve_address("127.0.0.1", 0) as reserved:
        address = reserved.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        reserved.listen()
        socket.create_connection(address).close()


def test_what_cannot_be_used_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"^127\.0\.0\.1:{port} cannot be used: "):
            reserve_address("127.0.0.1", port)
    for host, port in (("127.0.0.1", 99999), ("no.such.host.invalid", 0)):
        with pytest.raises(OSError, match=rf"^{host}:{port} cannot be used: "):
            reserve_address(host, port)
