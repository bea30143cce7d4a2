"""A WebSocket server that echoes, with permessage-deflate, as an origin of the Autobahn test suite.

Usage: echo.py PORT. Says "listening" and serves on loopback until it is ended.
"""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# The suite's largest message is 16 MiB.
MOST = 32 << 20


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=MOST, ping_interval=None) as server:
        print("listening", flush=True)
        await server.serve_forever()


asyncio.run(main())
