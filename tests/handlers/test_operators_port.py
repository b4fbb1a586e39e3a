"""With HOLDFAST_METRICS_PORT the operator's pages have a port of their own, and callers have no way to /metrics."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import httpx2
import msgspec
import pytest
import uvicorn
from eventually import until
from ports import free_port

from service.__main__ import DrainingServer
from service.handlers.admission import Admission
from service.handlers.connections import Connection
from service.handlers.patience import Patience


@pytest.fixture
def two_ports(running_app, settings):
    """`async with two_ports() as (public, operators)`: a server as `holdfast serve` runs it, and its two addresses."""

    @asynccontextmanager
    async def run():
        port, metrics_port = free_port(), free_port()
        async with running_app(msgspec.structs.replace(settings, port=port, metrics_port=metrics_port)) as edge:
            admission = Admission(Patience.connections_max, settings.address_connections)
            protocol = partial(Connection, patience=Patience(), drain=edge.drain, admission=admission)
            config = uvicorn.Config(
                cast("Any", edge), port=port, http=cast("Any", protocol), ws="none", lifespan="off", log_config=None
            )
            server = DrainingServer(config, edge)
            serving = asyncio.create_task(server.serve())
            await until(lambda: server.started and len(server.servers) == 2)
            yield [f"http://127.0.0.1:{number}" for number in (port, metrics_port)]
            server.should_exit = True
            await serving

    return run


async def test_each_port_answers_what_belongs_there(two_ports, make_key, tenant):
    headers = {"Authorization": f"Bearer {await make_key(tenant)}", "Host": "127.0.0.1:1"}
    paths = ("/metrics", "/health/live", "/health/ready", "/api/v1/sessions", "/schema", "/problems/not_found")
    async with two_ports() as addresses, httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        public, operators = [
            {path: (await client.get(address + path)).status_code for path in paths} for address in addresses
        ]

    assert public == dict.fromkeys(paths, 200) | {"/metrics": 404}
    assert operators == dict.fromkeys(paths, 404) | {"/metrics": 200, "/health/live": 200, "/health/ready": 200}
