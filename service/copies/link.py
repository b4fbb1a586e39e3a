"""A connection to Redis of one's own: one call at a time, each bounded, and an error that says what it proves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError

from service.copies.names import GENERATION
from service.copies.scripts import GENERATION_BYTES, GENERATION_SECONDS, SCRIPTS, Script

CONNECT_SECONDS_MAX = 3.0
"""A connection that has not come about by then will not. Calls do not wait for it so long; the next ones find it."""

REFUSALS = (ConnectionRefusedError, FileNotFoundError)
REFUSED = "[Errno 111]"


class Trouble(Exception):
    """Redis did not confirm; it may have done what it was asked, and it may be serving others."""


class Unanswered(Trouble):
    """Nothing was heard in time."""


class Away(Trouble):
    """Nobody listens where Redis should be, or it is still loading: it serves no copy, and will have to begin anew."""


def new_generation() -> bytes:
    """A generation that there has never been."""
    return secrets.token_hex(GENERATION_BYTES // 2).encode()


class Link:
    """One connection, made anew when it breaks."""

    def __init__(self, pool: ConnectionPool, seconds_max: float) -> None:
        self._pool = pool
        self._seconds_max = seconds_max
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Task[AbstractConnection] | None = None
        self._turn = asyncio.Lock()

    async def call(
        self,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[bytes | int],
        *,
        seconds_max: float | None = None,
    ) -> Any:
        """Run a script, within the link's time or within `seconds_max`.

        Raises:
            Away, Trouble: see there.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(self._seconds_max if seconds_max is None else seconds_max):
                    return await self._call(script, keys, arguments)
            except BusyLoadingError as error:
                raise Away(type(error).__name__) from error
            except TimeoutError as error:
                raise Unanswered(type(error).__name__) from error
            except (RedisError, OSError) as error:
                raise (Away if _is_refusal(error) else Trouble)(type(error).__name__) from error
            finally:
                await self._drop_if_out_of_step()

    async def close(self) -> None:
        """Give the connection back."""
        if self._connecting is not None:
            self._connecting.cancel()
            (made,) = await asyncio.gather(self._connecting, return_exceptions=True)
            if isinstance(made, AbstractConnection):
                await made.disconnect(nowait=True)
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            self._connection = None

    async def _call(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> Any:
        if self._connection is None:
            self._connection = await self._connected()
            self._waits = 0
        command = ("EVALSHA", script.digest, len(keys), *keys, *arguments)
        try:
            (answer,) = await self._ask([command])
        except NoScriptError:
            await self._begin_anew()
            (answer,) = await self._ask([command])
        return answer

    async def _connected(self) -> AbstractConnection:
        """A new connection. If the caller has no time for it, it comes about all the same, for the next call."""
        if self._connecting is not None:
            with suppress(RedisError, OSError):  # how it failed proves nothing: it was begun before this call
                return await self._made(self._connecting)
        self._connecting = asyncio.create_task(self._connect(), name="cache-connect")
        return await self._made(self._connecting)

    async def _made(self, connecting: asyncio.Task[AbstractConnection]) -> AbstractConnection:
        connection = await asyncio.shield(connecting)
        self._connecting = None
        return connection

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _begin_anew(self) -> None:
        """Give Redis the scripts and a new generation, both or neither."""
        begin = ("SET", GENERATION, new_generation(), "PX", int(GENERATION_SECONDS * 1000))
        loads = [("SCRIPT LOAD", script.text) for script in SCRIPTS]
        await self._ask([("MULTI",), begin, *loads, ("EXEC",)])

    async def _ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        connection = self._connection
        if connection is None:
            raise TimeoutError
        self._waits = len(commands)
        await connection.send_packed_command(
            connection.pack_commands(commands) if len(commands) > 1 else connection.pack_command(*commands[0]),
            check_health=False,
        )
        answers, refusal = [], None
        for _ in commands:
            try:
                answers.append(await connection.read_response(disable_decoding=True))
            except RedisError as error:
                if not connection.is_connected:
                    raise
                refusal = refusal or error
            self._waits -= 1
        if refusal is not None:
            raise refusal
        return answers

    async def _drop_if_out_of_step(self) -> None:
        """Let a connection go whose next answer would be another question's."""
        connection = self._connection
        if connection is not None and (self._waits or not connection.is_connected):
            self._connection = None
            await connection.disconnect(nowait=True)


def _is_refusal(error: BaseException) -> bool:
    """Whether it proves that nobody listens there. A full queue of connections, for one, proves nothing."""
    reason = error.__context__ if isinstance(error, RedisError) else error
    if isinstance(reason, REFUSALS):
        return True
    said = str(reason)  # of several addresses, all have to say so
    return isinstance(reason, OSError) and "Multiple exceptions" in said and said.count("[Errno") == said.count(REFUSED)
