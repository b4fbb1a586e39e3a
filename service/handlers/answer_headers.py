"""What answers say to browsers and caches about themselves (RFC 9111; https://fetch.spec.whatwg.org/#nosniff)."""

from __future__ import annotations

CACHE_CONTROL = b"cache-control"

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""On every answer: no browser guesses another type than the one that is said."""

PRIVATE = (CACHE_CONTROL, b"private, no-cache")
"""On answers of the API that say nothing else: no shared cache keeps them, and what a browser keeps it asks for again,

with the ETag where there is one.
"""

NO_STORE = {"Cache-Control": "no-store"}
"""On answers that hold a secret, which is shown once: a key's, a webhook's, a ticket."""
