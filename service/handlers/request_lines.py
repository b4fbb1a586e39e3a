"""What the line of a request in the log says: what was asked, from where, and who it was. Never credentials."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from service.domain.errors import Denial
from service.domain.ticket import Credential

CREDENTIAL_KEY = "holdfast.credential"
"""Where the ASGI scope has what proved the caller, from the moment at which it is proved."""

DENIAL_KEY = "holdfast.denial"
"""Where it has why credentials proved nothing."""

MODE_KEY = "holdfast.mode"
"""Where it has what a request does that its route does not say: to erase a session, where others end it."""

SECRET = re.compile(r"\b(hf_|whsec_)[A-Za-z0-9+/=_-]{6,}")
"""A key or a secret of ours in a path, where somebody put it in the place of an id."""

PATH_CHARACTERS_MAX = 512
"""Of a path in the log: twice the longest of ours, and no line of 60 KB for an address that leads nowhere."""

ISSUER_CHARACTERS_MAX = 200
"""Of an issuer in the log: what a token says of it may have any length where none is configured."""

SUBJECT_DIGEST_CHARACTERS = 16
"""64 bits of a digest tell the users of an installation apart, and name none of them."""


def fields_of(scope: Any) -> dict[str, Any]:
    """The path, cut, the client's address, and the caller: `tenant`, and `key_id` or `issuer` and `subject`."""
    client = scope.get("client")
    fields = {"path": path_of(scope), "address": None if client is None else client[0]}
    if MODE_KEY in scope:
        fields["mode"] = scope[MODE_KEY]
    credential: Credential | None = scope.get(CREDENTIAL_KEY)
    if credential is not None:
        fields |= _caller_fields(credential)
    denial: Denial | None = scope.get(DENIAL_KEY)
    if denial is not None:
        fields["reason"] = denial.value
    return fields


def path_of(scope: Any) -> str:
    """The path, cut, without what may be a secret in it: keys, and a query whose question mark was escaped."""
    path, mark, _ = scope["path"].partition("?")
    return shortened(SECRET.sub(r"\1…", path) + ("?…" if mark else ""), PATH_CHARACTERS_MAX)


def _caller_fields(credential: Credential) -> dict[str, Any]:
    tenant = credential.caller.tenant_id
    if credential.key_id is not None:
        return {"tenant": tenant, "key_id": str(credential.key_id)}
    issuer = credential.issuer or ""
    return {
        "tenant": tenant,
        "issuer": shortened(issuer, ISSUER_CHARACTERS_MAX),
        "subject": subject_digest(issuer, tenant, credential.caller.subject),
    }


def subject_digest(*names: str) -> str:
    """What stands for a token's user in the log: the same for the same issuer, tenant and subject.

    A digest and no secret: somebody who knows a user's name can find that user's lines, which is what it is for.
    """
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:SUBJECT_DIGEST_CHARACTERS]


def shortened(text: str, characters_max: int) -> str:
    """`text`, or its beginning and an ellipsis."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
