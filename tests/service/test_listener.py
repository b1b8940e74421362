"""The listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket

import uvloop

from service.listener import doors, open_socket

CLIENTS = 100


def test_clients_that_come_together_are_let_in_together() -> None:
    """Not one a turn of the event loop, whose turns are long while it is busy."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(open_socket("127.0.0.1", 0, may_be_public=False))
        sockets = doors(listener)
        for client in [stack.enter_context(socket.socket()) for _ in range(CLIENTS)]:
            client.connect(listener.getsockname())
        turns = uvloop.run(_turns_until_all_are_in(sockets))
    assert turns <= math.ceil(CLIENTS / len(sockets)) + 1
    assert len(sockets) >= 10


async def _turns_until_all_are_in(sockets: list[socket.socket]) -> int:
    loop = asyncio.get_running_loop()
    accepted: list[int] = []
    turn = 0

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(next_turn)

    class Guest(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(turn)
            transport.close()

    servers = [await loop.create_server(Guest, sock=each) for each in sockets]
    next_turn()
    async with asyncio.timeout(30):
        while len(accepted) < CLIENTS:
            await asyncio.sleep(0)
    for server in servers:
        server.close()
        await server.wait_closed()
    return len(set(accepted))
