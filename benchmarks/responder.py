"""A server that answers everything with the same few bytes: the ceiling of the load client.

`python -m benchmarks.responder PORT`.
"""

from __future__ import annotations

import selectors
import socket
import sys

from benchmarks.processes import HOST

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


def serve(port: int) -> None:
    with selectors.DefaultSelector() as selector, socket.create_server((HOST, port)) as listener:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    client, _ = listener.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(client, selectors.EVENT_READ, client)
                elif key.data.recv(65536):
                    key.data.sendall(ANSWER)
                else:
                    selector.unregister(key.data)
                    key.data.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
