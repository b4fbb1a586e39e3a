"""Requests that ask to go over to another protocol are answered in the one that they came in (RFC 9110, 7.8).

httptools takes whatever follows such a head for the other protocol, skips the body, and reads on behind it: a body that
came in a packet of its own would be read as another request. Java's client and `curl --http2` ask with every request.
"""

from __future__ import annotations

from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_FIELDS_MAX = 100
"""As common servers take; each costs some 120 bytes beside its own, so that a head of 62 KB took 1.8 MB (measured)."""

TRAILER_BYTES_MAX = 64 * 1024
"""Of the fields behind a chunked body, with what each costs to keep: as large as a head may be. Nothing here reads
them, and they are not kept."""

FIELD_BYTES = 32
"""What a field costs beside its name and value, as HTTP/2 counts it (RFC 7541, section 4.1)."""


class RequestParser:
    """The parser of uvicorn's protocol, as httptools has it but for upgrades.

    A head that asks for one is read once more without its `Upgrade`, by a new parser, before the protocol hears of it;
    so all that follows is read as behind any other head.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._parser = self._new_parser()

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(Told(self._protocol))
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        return parser

    def feed_data(self, data: bytes) -> None:
        """Read what came.

        Raises:
            HttpParserError: it is no HTTP, or asks for a tunnel (CONNECT); nothing behind it may be read.
        """
        rest = memoryview(data)
        while rest:
            try:
                self._parser.feed_data(rest)
            except HttpParserUpgrade as seen:
                rest = rest[cast("int", seen.args[0]) :]
                self._read_head_again()
            else:
                return

    def _read_head_again(self) -> None:
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise HttpParserError("No tunnels")
        first = b"%b %b HTTP/%b" % (method, self._protocol.url, self.get_http_version().encode())
        fields = [b"%b: %b" % field for field in self._protocol.headers if field[0] != b"upgrade"]
        self._parser = self._new_parser()
        self._parser.feed_data(b"\r\n".join([first, *fields, b"", b""]))

    @property
    def reads_head_again(self) -> bool:
        """Whether what httptools tells is not yet to be heard."""
        return self._parser.should_upgrade()

    def should_upgrade(self) -> bool:
        """Never."""
        return False

    def should_keep_alive(self) -> bool:
        """Whether another request may follow."""
        return self._parser.should_keep_alive()

    def get_method(self) -> bytes:
        """The request's method."""
        return self._parser.get_method()

    def get_http_version(self) -> str:
        """The request's version of HTTP."""
        return self._parser.get_http_version()


class Told:
    """What httptools tells a protocol: all but the end of a head that is read once more, and the fields of a trailer.

    It knows the parser only by its protocol, which forgets it with the connection: no circle is left to be collected.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._is_in_head = True
        self._fields = 0
        self._trailer_bytes = 0
        self.on_url = protocol.on_url
        self.on_body = protocol.on_body

    def on_message_begin(self) -> None:
        """Pass on that a head begins."""
        self._is_in_head = True
        self._fields = 0
        self._trailer_bytes = 0
        self._protocol.on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Pass on a field of the head; drop one of the trailer (RFC 9112, section 7.1.2).

        Raises:
            HttpParserError: there are more of them than make sense.
        """
        if self._is_in_head:
            self._fields += 1
            if self._fields > HEAD_FIELDS_MAX:
                raise HttpParserError("The head has too many fields")
            self._protocol.on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value) + FIELD_BYTES
        if self._trailer_bytes > TRAILER_BYTES_MAX:
            raise HttpParserError("The trailer has no end")

    def on_headers_complete(self) -> None:
        """Pass on that a request begins."""
        self._is_in_head = False
        if not self._parser.reads_head_again:
            self._protocol.on_headers_complete()

    def on_message_complete(self) -> None:
        """Pass on that all of it is there."""
        if not self._parser.reads_head_again:
            self._protocol.on_message_complete()

    @property
    def _parser(self) -> RequestParser:
        return cast("RequestParser", self._protocol.parser)
