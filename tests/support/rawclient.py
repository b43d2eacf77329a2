"""A TWS client that sends and shows bare fields: it shares nothing with the gateway, nor with any library."""

from __future__ import annotations

import socket
from types import TracebackType


class RawClient:
    """A connection; `start` names the client, which every gateway wants before anything else."""

    def __init__(self, port: int, versions: str = "v157..176", client_id: int | None = 1) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.send_bytes(b"API\0" + framed(versions.encode()))
        if client_id is not None:
            self.version = int(self.receive()[0])
            self.send(71, 2, client_id, "")
            self.until("9")

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send_bytes(self, payload: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(payload)

    def send(self, *fields: object) -> None:
        """Send a message."""
        self.send_bytes(framed("".join(f"{field}\0" for field in fields).encode()))

    def receive_bytes(self, count: int) -> bytes:
        """Return so many bytes, fewer where the gateway hangs up before."""
        received = b""
        while len(received) < count and (more := self.socket.recv(count - len(received))):
            received += more
        return received

    def receive(self) -> list[str]:
        """Return the fields of the next message, none where the gateway has hung up."""
        size = int.from_bytes(self.receive_bytes(4), "big")
        return self.receive_bytes(size).decode(errors="replace").split("\0")[:-1]

    def until(self, number: str) -> list[list[str]]:
        """Return the messages up to the first of that number, which is the last of them."""
        messages = [self.receive()]
        while messages[-1] and messages[-1][0] != number:
            messages.append(self.receive())
        return messages

    def answer(self, req_id: int) -> list[str]:
        """Return the next message that is neither a notice nor another request's."""
        message = self.receive()
        while message and str(req_id) not in message[1:4]:
            message = self.receive()
        return message

    def ask_bars(self, req_id: int, symbol: str = "AAPL", *, end: str = "20130302-00:00:00", **words: str) -> None:
        """Send message 20 for bars, daily ones of ten days if nothing else is said."""
        asked = {"duration": "10 D", "size": "1 day", "rth": "1", "prices": "TRADES", "format": "2"} | words
        contract = ["0", symbol, "STK", "", "0.0", "", "", "SMART", "", "USD", "", ""]
        version, keep = ([6], []) if self.version < 124 else ([], [words.get("keep", "0")])
        wish = [end, asked["size"], asked["duration"], asked["rth"], asked["prices"], asked["format"]]
        self.send(20, *version, req_id, *contract, "0", *wish, *keep, "")


def framed(payload: bytes) -> bytes:
    """Return a payload behind its length."""
    return len(payload).to_bytes(4, "big") + payload


def rows(message: list[str], version: int = 176) -> list[list[str]]:
    """Return the bars of a message 17."""
    start, width = (3, 8) if version >= 196 else (5, 8) if version >= 124 else (6, 9)
    return [message[place : place + width] for place in range(start, len(message), width)]
