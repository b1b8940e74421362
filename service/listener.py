"""The socket: opened before anything slow is imported, so that a taken port is told at once."""

from __future__ import annotations

import errno
import socket

from service.settings import is_loopback

__all__ = ["BACKLOG", "ServeError", "doors", "open_socket"]

BACKLOG = 2048

_DOORS = 32


class ServeError(Exception):
    """The service cannot start; the message says what to do about it."""


def open_socket(host: str, port: int, *, may_be_public: bool) -> socket.socket:
    """A listening socket, opened before anything slow happens, so that a taken port is told at once.

    Raises:
        ServeError: the address is public without permission, or cannot be had.
    """
    if not is_loopback(host) and not may_be_public:
        raise ServeError(
            f"{host} can be reached from other machines, and nobody would be asked for a key; "
            "listen on 127.0.0.1, give --keys-file (`nonesuch key NAME` makes keys), or say --allow-anonymous "
            "(NONESUCH_ALLOW_ANONYMOUS=true) if that is meant"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}: {error.strerror or error}") from None
    try:
        # A port that a stopped server left moments ago can be had again; one that is being listened on cannot.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} on {host} is taken; stop what listens there, or choose another: "
                f"nonesuch serve --port {port + 1} (make serve PORT={port + 1})"
            ) from None
        if error.errno == errno.EACCES:
            raise ServeError(f"port {port} needs more rights; choose one above 1023") from None
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def doors(listener: socket.socket) -> list[socket.socket]:
    """The listening socket as often as new connections are to be accepted in one turn of the event loop.

    libuv accepts one connection of a socket a turn. When a hundred clients come at once, and the turns fill with the
    questions of those that are in already, the last of them would wait for a hundred turns, which is half a second.
    """
    return [listener, *(listener.dup() for _ in range(_DOORS - 1))]
