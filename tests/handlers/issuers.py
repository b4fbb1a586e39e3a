"""An issuer of tokens: what it signs, what somebody forges, and the document of its keys as it is served."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager, suppress

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from ports import free_port

ISSUER, AUDIENCE = "https://issuer.test", "holdfast"

PIECES, PIECE_SECONDS = 40, 0.05
"""A document that trickles: each piece comes soon after the one before, and the last one after two seconds."""


def claims(**changes):
    """Good claims; a change to None takes a claim away."""
    good = {
        "sub": "u1",
        "tenant": "tenant-of-tokens",
        "scope": "sessions:read sessions:write",
        "exp": time.time() + 600,
        "iss": ISSUER,
        "aud": AUDIENCE,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def forged(header, payload, secret):
    """A token whose parts are written as they are, signed with HMAC-SHA-256."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def signed(key, key_id, algorithm="RS256", **changes):
    """A token with good claims, but for the `changes`, which names the key that signed it."""
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers={"kid": key_id})


class Issuer:
    """An issuer of tokens: its keys, and the server that publishes them."""

    def __init__(self):
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.document = self.published(rsa=self.rsa, ec=self.ec)
        self.fetches = 0
        self.held_from = float("inf")
        """The fetch from which on only the head of the answer is sent, until `flowing` is set."""
        self.flowing = asyncio.Event()
        self.trickles = False
        self.port = free_port()  # known before it serves, and nobody else's while it does not

    def published(self, **keys):
        published = []
        for name, key in keys.items():
            algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
            published.append(algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": name, "use": "sig"})
        return json.dumps({"keys": published}).encode()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        try:
            yield
        finally:
            self.flowing.set()
            server.close()
            await server.wait_closed()

    async def _answer(self, reader, writer):
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.fetches += 1
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.document)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            if self.fetches >= self.held_from:
                await self.flowing.wait()
            await self._send_document(writer)
            writer.close()
            await writer.wait_closed()

    async def _send_document(self, writer):
        size = -(-len(self.document) // (PIECES if self.trickles else 1)) or 1
        for start in range(0, len(self.document), size):
            writer.write(self.document[start : start + size])
            await writer.drain()
            await asyncio.sleep(PIECE_SECONDS if self.trickles else 0)
