"""A client that goes away is noticed, whatever else it has sent before."""

from __future__ import annotations

from eventually import until
from sockets import NEVER
from structlog.testing import capture_logs

from service.handlers import streaming

STREAMS = 4


async def test_a_stream_ends_with_its_client_though_another_request_waits_behind_it(
    served, open_session, monkeypatch, caplog
):
    monkeypatch.setattr(streaming, "BEAT_SECONDS", NEVER)  # else the next beat would notice
    session = await open_session()
    async with served() as server:
        streams = server.edge.app.state.parts.streams
        clients = [await server.connect() for _ in range(STREAMS)]
        for number, client in enumerate(clients):
            await client.begin("GET", f"/api/v1/sessions/{session['id']}/events/stream")
            if number % 2:
                await client.begin("GET", "/api/v1/sessions")
        await until(lambda: streams.count == STREAMS)
        await server.until_waiting(STREAMS // 2)
        with capture_logs() as said:
            for client in clients:
                client.hang_up()
            await until(lambda: streams.count == 0)
            await server.until_open(0)

    endings = [line["ending"] for line in said if line["event"] == "stream.ended"]
    assert endings == ["hung_up"] * STREAMS
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
