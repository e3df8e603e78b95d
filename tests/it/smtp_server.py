"""A mail server for tests: it keeps nothing, tells what it got, and misbehaves on request.

It listens on the loopback interface and writes JSON to standard output, one object a line:

- {"port": 2525} once it listens;
- {"attempt": "ann@example.com"} for each recipient that somebody names, before it is answered;
- {"mail": {...}} for each message that it has accepted, written before its answer is sent.

Times are seconds since 1970. What a recipient's address begins with decides what happens to it:

- refused: 550 to RCPT               - busy: 451 to RCPT
- busyonce: 451 to the first RCPT    - rejected: 554 after the message
- stall: RCPT is never answered      - stalldata: the message is never answered
- drop: the connection is cut at RCPT
- hangquit: the message is accepted, but QUIT is never answered

It ends when its standard input is closed, so it cannot outlive the test that started it.
"""

import argparse
import asyncio
import json
import logging
import os
import ssl
import sys
import threading
import time
import warnings
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, AuthResult

# The longest words first: "stalldata" begins with "stall".
WORDS = sorted(
    [
        "refused",
        "busy",
        "busyonce",
        "rejected",
        "stall",
        "stalldata",
        "drop",
        "hangquit",
    ],
    key=len,
    reverse=True,
)


def tell(**what):
    print(json.dumps(what), flush=True)


def word_of(address):
    """The misbehaviour that an address asks for, or None."""
    return next((word for word in WORDS if address.lower().startswith(word)), None)


async def never():
    await asyncio.get_running_loop().create_future()


class Handler:
    def __init__(self):
        self.been_busy = set()

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        tell(attempt=address)
        match word_of(address):
            case "refused":
                return "550 5.1.1 no such mailbox"
            case "busy":
                return "451 4.3.0 too busy"
            case "busyonce" if address not in self.been_busy:
                self.been_busy.add(address)
                return "451 4.2.0 try again"
            case "stall":
                await never()
            case "drop":
                server.transport.abort()
                await never()
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        words = {word_of(address) for address in envelope.rcpt_tos}
        if "rejected" in words:
            return "554 5.6.0 not wanted"
        if "stalldata" in words:
            await never()
        server.hangs_on_quit = "hangquit" in words
        message = message_from_bytes(envelope.content, policy=policy.default)
        plain = message.get_body(preferencelist=("plain",))
        body = plain.get_content() if plain is not None else ""
        parts = [part for part in message.walk() if not part.is_multipart()]
        tell(
            mail={
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "user": session.auth_data,
                "data": envelope.content.decode("utf-8", "replace"),
                "headers": [[name, str(value)] for name, value in message.items()],
                "body": body.replace("\r\n", "\n"),
                "parts": [
                    [part.get_content_type(), part.get_content().replace("\r\n", "\n")]
                    for part in parts
                ],
                "at": server.began,
                "received": time.time(),
            }
        )
        server.began = None
        return "250 2.0.0 taken"

    async def handle_QUIT(self, server, session, envelope):
        if server.hangs_on_quit:
            await never()
        return "221 2.0.0 bye"


class Server(SMTP):
    """Notes when the first byte of a connection came, or the first one after a message."""

    began = None
    hangs_on_quit = False

    def data_received(self, data):
        if self.began is None:
            self.began = time.time()
        super().data_received(data)


def authenticator_for(credentials):
    user, _, password = credentials.partition(":")

    def authenticate(server, session, envelope, mechanism, data):
        is_right = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=is_right, handled=False, auth_data=user)

    return authenticate


async def serve(arguments):
    options = {}
    context = None
    if arguments.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.certificate, arguments.key)
    is_upgraded = arguments.tls == "starttls"
    if is_upgraded:
        options = {"tls_context": context, "require_starttls": True}
    if arguments.auth:
        options |= {
            "authenticator": authenticator_for(arguments.auth),
            "auth_required": True,
            "auth_require_tls": is_upgraded,
        }
    handler = Handler()

    def connected():
        return Server(
            handler,
            hostname="localhost",
            ident="test",
            enable_SMTPUTF8=arguments.smtputf8,
            # Who stalls has to be cut off by the client.
            timeout=86_400,
            **options,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        connected,
        "127.0.0.1",
        arguments.port,
        ssl=None if is_upgraded else context,
    )
    tell(port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


def end_with_the_test():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description="a mail server for tests")
    parser.add_argument("--port", type=int, default=0, help="0 for any free one")
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="ask for a login")
    parser.add_argument("--smtputf8", action="store_true", help="offer SMTPUTF8")
    parser.add_argument("--tls", choices=["starttls", "tls"], help="speak only TLS")
    parser.add_argument("--certificate", metavar="FILE", help="what TLS shows")
    parser.add_argument("--key", metavar="FILE", help="the key that belongs to it")
    arguments = parser.parse_args()
    # A login without encryption is what a test on one machine wants.
    warnings.simplefilter("ignore")
    logging.getLogger("mail").setLevel(logging.CRITICAL)
    threading.Thread(target=end_with_the_test, daemon=True).start()
    asyncio.run(serve(arguments))


if __name__ == "__main__":
    main()
