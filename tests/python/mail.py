"""A mail server for tests: aiosmtpd on loopback, one JSON line on standard output for each message that it was given.

mail.py PORT [--cert FILE --key FILE --how starttls|tls] [--user NAME PASSWORD] [--slow SECONDS]

What it does with a message depends on the local part of the recipient: `nobody` is refused for ever, `full` for now, `later` is
refused for now once after its content, `cut` is taken and the connection ends without a word, once. With `--slow` a message is taken
so long before its sender has the word.
"""

import argparse
import asyncio
import email
import email.policy
import hashlib
import json
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Handler:
    def __init__(self, slow):
        self.seen = set()
        self.slow = slow

    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0]
        if local == "nobody":
            return "550 5.1.1 no such mailbox"
        if local == "full":
            return "452 4.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        address = envelope.rcpt_tos[0]
        local = address.split("@")[0]
        first = address not in self.seen
        self.seen.add(address)
        if local == "later" and first:
            return "451 4.3.0 not now"
        say(describe(server, session, envelope))
        await asyncio.sleep(self.slow)
        if local == "cut" and first:
            server.transport.abort()
        return "250 2.0.0 queued as 4711"


def describe(server, session, envelope):
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    parts = list(message.walk())
    one = lambda kind: next((part for part in parts if part.get_content_type() == kind), None)
    plot = one("image/png")
    return {
        "from": envelope.mail_from,
        "to": envelope.rcpt_tos,
        "tls": session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None,
        "login": session.login_data.decode() if getattr(session, "login_data", None) else None,
        "headers": {name.lower(): str(value) for name, value in message.items()},
        "kinds": [part.get_content_type() for part in parts],
        "text": one("text/plain").get_content(),
        "html": one("text/html").get_content(),
        "plot": {
            "id": plot["Content-ID"],
            "disposition": plot.get_content_disposition(),
            "sha256": hashlib.sha256(plot.get_content()).hexdigest(),
            "png": plot.get_content()[:4] == b"\x89PNG",
        },
    }


def say(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--how", default="starttls")
    parser.add_argument("--user", nargs=2)
    parser.add_argument("--slow", type=float, default=0)
    args = parser.parse_args()
    options = {}
    if args.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.cert, args.key)
        if args.how == "tls":
            options["ssl_context"] = context
        else:
            options |= {"tls_context": context, "require_starttls": True}
    if args.user:

        def authenticate(server, session, envelope, mechanism, data):
            good = [data.login.decode(), data.password.decode()] == args.user
            return AuthResult(success=good, handled=False, auth_data=data.login)

        options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": args.how != "tls"}
    controller = Controller(Handler(args.slow), hostname="127.0.0.1", port=args.port, **options)
    controller.start()
    say("ready")
    threading.Event().wait()


main()
