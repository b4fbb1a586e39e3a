"""The role that serves: it reads and writes Holdfast's tables, and owns nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import asyncpg

from service.domain.errors import Unavailable
from service.store.connections import DATABASE_TROUBLE
from service.store.engine import plain_url
from service.store.tables import METADATA

ITERATIONS = 4096
"""As PostgreSQL itself makes verifiers (`scram_iterations`): long random passwords need no more."""

SALT_BYTES = 16

ROLES_LOCK = 0x526F6C65
"""The advisory lock ("Role" in ASCII) that lets one process make the role while others wait."""

ALEMBICS_TABLE = "alembic_version"
"""Read at every start, written by migrations alone."""


class ServingRole(NamedTuple):
    """Who connects with a DATABASE_URL; `password` is None where the server asks for none."""

    name: str
    password: str | None


def role_in(database_url: str) -> ServingRole:
    """The role that a URL names; where one matters, `settings` has seen to it that there is one."""
    parts = urlsplit(plain_url(database_url))
    return ServingRole(unquote(parts.username or ""), None if parts.password is None else unquote(parts.password))


def admit(owner_url: str, role: ServingRole) -> None:
    """Let a role read and write all tables, as their owner; it is made where it is missing. Safe to run again.

    Raises:
        Unavailable: PostgreSQL is away, or the owner may not make the role.
    """
    try:
        asyncio.run(_admit(owner_url, role))
    except asyncpg.InsufficientPrivilegeError as error:
        raise Unavailable(
            f"The role {role.name} cannot be let in ({error}): have an administrator of PostgreSQL make it "
            "(CREATE ROLE … LOGIN PASSWORD …), and run this as the owner of the tables."
        ) from error
    except DATABASE_TROUBLE as error:
        raise Unavailable(
            f"PostgreSQL cannot be used ({error}): start it, or correct HOLDFAST_DATABASE_OWNER_URL."
        ) from error


async def _admit(owner_url: str, role: ServingRole) -> None:
    connection = await asyncpg.connect(plain_url(owner_url))
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({ROLES_LOCK})")
            name = await connection.fetchval("SELECT quote_ident($1)", role.name)
            schema = await connection.fetchval("SELECT quote_ident(current_schema())")
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role.name):
                password = "" if role.password is None else f" PASSWORD '{verifier_of(role.password)}'"
                await connection.execute(f"CREATE ROLE {name} LOGIN{password}")
            await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
            await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(METADATA.tables)} TO {name}")
            await connection.execute(f"GRANT SELECT ON {ALEMBICS_TABLE} TO {name}")
    finally:
        await connection.close()


def verifier_of(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5803), so that no statement and no log holds the password itself."""
    salt = os.urandom(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    written = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{written[0]}${written[1]}:{written[2]}"
