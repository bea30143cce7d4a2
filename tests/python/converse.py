"""A conversation with a WebSocket server that echoes; what was heard goes to standard output as JSON.

Usage: converse.py URL ADDRESS PORT [CA]. Every connection is one line of CLOSES; the first also carries all messages.
"""

import asyncio
import hashlib
import json
import socket
import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.asyncio.client import connect

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20]
CLOSES = [(1000, ""), (1000, "done"), (1001, "going away"), (3000, "registered"), (4999, "x" * 123)]


def digest(message):
    kind = "text" if isinstance(message, str) else "binary"
    data = message.encode() if isinstance(message, str) else bytes(message)
    return [kind, len(data), hashlib.sha256(data).hexdigest()]


def payload(size):
    return bytes(n * 7 % 251 for n in range(min(size, 4096))) * (size // 4096 + 1)


async def converse(connection):
    heard = []

    async def say(message, as_sent=None):
        await connection.send(message)
        answer = await connection.recv()
        expected = message if as_sent is None else as_sent
        assert answer == expected, f"{len(expected)} bytes did not come back as they were sent"
        heard.append(digest(answer))

    for size in SIZES:
        await say(payload(size)[:size])
    for text in ["", "a", "grüße, \N{WATER WAVE}", "é" * 70000]:
        await say(text)
    # An iterable is sent as one message in fragments.
    await say([b"one ", b"", b"two ", b"three" * 50000], b"one two " + b"three" * 50000)
    await say(["ä", "ö", "ü"], "äöü")
    for data in [b"", b"are you there?", b"x" * 125]:
        pong = await connection.ping(data)
        await asyncio.wait_for(pong, timeout=30)
        heard.append(["pong", len(data)])
    # The origin pings after this one, and says so when the library has answered.
    await say("ping me")
    assert await connection.recv() == "pong heard"
    return heard


async def main():
    url, address, port = sys.argv[1:4]
    context = ssl.create_default_context(cafile=sys.argv[4]) if len(sys.argv) > 4 else None
    heard = []
    for number, (code, reason) in enumerate(CLOSES):
        connection = await connect(
            url,
            sock=socket.create_connection((address, int(port))),
            ssl=context,
            proxy=None,
            max_size=None,
            ping_interval=None,
            open_timeout=60,
            close_timeout=60,
        )
        if number == 0:
            heard.extend(await converse(connection))
        await connection.close(code, reason)
        try:
            await connection.recv()
            raise AssertionError("a message behind the close")
        except ConnectionClosed as closed:
            heard.append(["closed", closed.rcvd.code, closed.rcvd.reason])
    print(json.dumps(heard))


asyncio.run(main())
