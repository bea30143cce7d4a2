"""WebSockets over one connection of HTTP/2 (RFC 8441), by `h2` and `wsproto`, with a server that echoes.

Usage: converse_h2.py HOST ADDRESS PORT CA. The number of WebSockets that were opened goes to standard output.
"""

import socket
import ssl
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]
CLOSES = [(1000, "done"), (1001, "going away"), (4999, "x" * 123)]


class WebSocket:
    def __init__(self, client, stream):
        self.client, self.stream = client, stream
        self.frames = Connection(ConnectionType.CLIENT)
        self.status = None
        self.events, self.ended = [], False

    def send(self, event):
        self.client.send(self.stream, self.frames.send(event))

    def next(self):
        """The next event: a whole message, a pong, a close."""
        parts = []
        while True:
            while not self.events:
                assert not self.ended, "the stream ended"
                self.client.pump()
            event = self.events.pop(0)
            if not isinstance(event, (BytesMessage, TextMessage)):
                return event
            parts.append(event.data)
            if event.message_finished:
                return b"".join(map(bytes, parts)) if isinstance(event, BytesMessage) else "".join(parts)

    def say(self, message):
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        self.send(event)
        answer = self.next()
        assert answer == message, f"{len(message)} bytes did not come back as they were sent"


class Client:
    def __init__(self, host, address, port, authority):
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection((address, port), timeout=60)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.host, self.sockets = host, {}
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.flush()
        while not self.http.remote_settings.enable_connect_protocol:
            self.pump()

    def flush(self):
        self.socket.sendall(self.http.data_to_send())

    def pump(self):
        data = self.socket.recv(65536)
        assert data, "the connection ended"
        for event in self.http.receive_data(data):
            assert not isinstance(event, ConnectionTerminated), event
            websocket = self.sockets.get(getattr(event, "stream_id", None))
            if websocket is None:
                continue
            assert not isinstance(event, StreamReset), event
            if isinstance(event, ResponseReceived):
                websocket.status = dict(event.headers)[":status"]
            elif isinstance(event, DataReceived):
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                # The end of a stream may be an empty frame.
                if event.data:
                    websocket.frames.receive_data(event.data)
                    websocket.events.extend(websocket.frames.events())
            elif isinstance(event, StreamEnded):
                websocket.ended = True
        self.flush()

    def send(self, stream, data):
        while data:
            room = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size)
            if room == 0:
                self.pump()
                continue
            self.http.send_data(stream, data[:room])
            data = data[room:]
            self.flush()

    def open(self):
        stream = self.http.get_next_available_stream_id()
        websocket = self.sockets[stream] = WebSocket(self, stream)
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", self.host),
            (":path", "/chat"),
            ("sec-websocket-version", "13"),
        ]
        self.http.send_headers(stream, fields)
        self.flush()
        while websocket.status is None:
            self.pump()
        assert websocket.status == "200", websocket.status
        return websocket


def main():
    host, address, port, authority = sys.argv[1:5]
    client = Client(host, address, int(port), authority)
    websockets = [client.open() for _ in CLOSES]
    for size in SIZES:
        for websocket in websockets:
            websocket.say(bytes(n * 7 % 251 for n in range(min(size, 4096))) * max(size // 4096, 1))
    for text in ["", "a", "grüße, \N{WATER WAVE}", "é" * 70000]:
        for websocket in websockets:
            websocket.say(text)
    for websocket in websockets:
        websocket.send(Ping(b"are you there?"))
        answer = websocket.next()
        assert isinstance(answer, Pong) and bytes(answer.payload) == b"are you there?", answer
    for websocket, (code, reason) in zip(websockets, CLOSES):
        websocket.send(CloseConnection(code, reason))
        answer = websocket.next()
        assert isinstance(answer, CloseConnection) and answer.code == code, answer
        while not websocket.ended:
            client.pump()
    print(len(websockets))


main()
