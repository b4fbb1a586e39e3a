"""The key that `holdfast up` makes at its first start, so that the first request needs no set-up."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from service.commands.api_keys import KeyWish, create_api_key
from service.domain.api_key import BY_COMMAND, digest, new_secret
from service.domain.caller import Scope
from service.store import api_keys
from service.store.engine import Database

FILE_NAME = "development-key"
TENANT = "development"
NAME = "development"


def ensure(database_url: str, folder: Path) -> str:
    """The development key: the one kept in `folder`, or a new one with every scope, kept there for its owner alone."""
    return asyncio.run(_ensure(database_url, folder))


async def _ensure(database_url: str, folder: Path) -> str:
    database = Database(database_url, connections_max=1)
    await database.open()
    try:
        path = folder / FILE_NAME
        secret = path.read_text().strip() if path.exists() else ""
        async with database.begin() as tx:
            if secret and await api_keys.find(tx, digest(secret)) is not None:
                return secret
            secret = new_secret()
            wish = KeyWish(
                tenant_id=TENANT, name=NAME, user_id=None, scopes=[Scope.ADMIN], lifetime=None, created_by=BY_COMMAND
            )
            await create_api_key(tx, wish, secret)
            # Written before the commit: a file without a key is replaced at the next start, a key without a file
            # could never be shown again.
            _write_private(path, secret)
        return secret
    finally:
        await database.close()


def _write_private(path: Path, secret: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
