"""Which processes are given which credentials: those that use them, and no others.

A process that is taken over then gives away what it had to have, and an event worker no key with which tokens are made.
"""

from __future__ import annotations

from collections.abc import Mapping

WEB, WEBHOOKS, ATTACHMENTS = "web", "worker-webhooks", "worker-attachments"
"""Processes as the Procfile calls them."""

USED_BY = {
    "HOLDFAST_SECRET": {WEB, WEBHOOKS},
    "HOLDFAST_JWT_SECRET": {WEB},
}

BUCKET_PREFIX = "AWS_"
"""Of every variable that a client of S3 reads; who has a key may have it in any of them."""

BUCKET_USED_BY = {WEB, ATTACHMENTS}


def own_variables(process: str, environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without the credentials that `process` does not use; one that is not known here uses none."""
    return {name: value for name, value in environment.items() if _may_have(process, name)}


def _may_have(process: str, variable: str) -> bool:
    if variable.startswith(BUCKET_PREFIX):
        return process in BUCKET_USED_BY
    return variable not in USED_BY or process in USED_BY[variable]
