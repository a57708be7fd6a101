"""Addresses that servers listen at."""

import socket


def reserve_address(host: str, port: int) -> socket.socket:
    """
    Returns a socket that has an address, and refuses connections until it listens.

    Args:
        host (`str`): the address.
        port (`int`): the port; 0 for any that is free.

    Raises:
        OSError: if the address cannot be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"{host}:{port} cannot be used: {getattr(error, 'strerror', None) or error}") from error
    return listener
