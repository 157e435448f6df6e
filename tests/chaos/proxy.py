"""A TCP proxy that can do to a connection what networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from tests.e2e.service import free_port

HOST = "127.0.0.1"
_AT_ONCE_AND_ROUGHLY = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets


class Proxy:
    """Passes everything on until told otherwise. Runs in a thread of its own; every method may be called from any."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.replies_swallowed = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._refuses = False
        self._swallow_after = b""
        self._thread = Thread(target=self._run, name=f"proxy to {target}", daemon=True)
        self._thread.start()
        self._do(self._flows.set)

    def reset_all(self) -> None:
        """Every connection there is breaks; new ones may come."""
        self._do(self._reset)

    def refuse(self) -> None:
        """Every connection breaks, and new ones too, until `pass_on`."""
        self._refuses = True
        self.reset_all()

    def swallow(self) -> None:
        """Nothing passes in either direction and nothing breaks, until `pass_on`."""
        self._do(self._flows.clear)

    def pass_on(self) -> None:
        self._refuses = False
        self._do(self._flows.set)

    def swallow_next_reply_to(self, request: bytes) -> None:
        """The next request with these bytes arrives; once the server has answered, the connection breaks instead."""
        self._swallow_after = request

    def close(self) -> None:
        self._do(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, action: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda *_: None)  # broken connections are its trade
        server = self._loop.run_until_complete(asyncio.start_server(self._connect, HOST, self.port))
        self._loop.run_forever()
        server.close()
        self._reset()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def _reset(self) -> None:
        for writer in list(self._open):
            _break(writer)

    async def _connect(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._open.add(to_client)
        try:
            if self._refuses:
                return
            from_server, to_server = await asyncio.open_connection(HOST, self._target)
            self._open.add(to_server)
            cut = asyncio.Event()  # set when the next reply is not to arrive
            try:
                await asyncio.gather(
                    self._pump(from_client, to_server, self._watch_requests(cut)),
                    self._pump(from_server, to_client, lambda _: cut.is_set()),
                )
            finally:
                self._open.discard(to_server)
                _break(to_server)
        except OSError:
            pass  # as broken as the client will find it
        finally:
            self._open.discard(to_client)
            _break(to_client)

    def _watch_requests(self, cut: asyncio.Event) -> Callable[[bytes], bool]:
        def watch(said: bytes) -> bool:
            if self._swallow_after and self._swallow_after in said:
                self._swallow_after = b""
                cut.set()
            return False

        return watch

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_to_be_cut: Callable[[bytes], bool]
    ) -> None:
        while said := await source.read(65_536):
            await self._flows.wait()
            if is_to_be_cut(said):
                self.replies_swallowed += 1
                raise ConnectionResetError("the reply is swallowed")
            sink.write(said)
            await sink.drain()
        raise ConnectionResetError("one side has ended")


def _break(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE_AND_ROUGHLY)
    writer.transport.abort()
