"""What operators see: health, metrics, logs; and what callers see while a server is away (API 8)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import time
from pathlib import Path

import jwt
import msgspec
import pytest
from eventually import DEADLINE_SECONDS, until
from prometheus_client.parser import text_string_to_metric_families

from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Scope
from service.embedded.servers import EmbeddedServers
from service.store import migrate
from service.store.engine import Database

NO_DATABASE = "postgresql://postgres@/none?host=/nonexistent"
NO_REDIS = "unix:///nonexistent/redis.sock?db=0"


@pytest.fixture
def app_with(settings, running_app):
    """`async with app_with(redis_url=…) as edge`: an app with other settings than the shared one."""

    def with_(**changes):
        return running_app(msgspec.structs.replace(settings, **changes))

    return with_


async def health(client_of, edge):
    async with client_of(edge) as client:
        live, ready = await client.get("/health/live"), await client.get("/health/ready")
    return (live.status_code, live.json()), (ready.status_code, ready.json())


async def test_with_all_in_place_the_app_is_ready(app_with, client_of, patient_redis):
    async with app_with() as edge:
        live, ready = await health(client_of, edge)

    assert live == (200, {"status": "alive"})
    assert ready == (200, {"status": "ready", "postgresql": "ok", "redis": "ok"})


async def test_without_redis_the_app_is_degraded(app_with, client_of):
    async with app_with(redis_url=NO_REDIS) as edge:
        live, ready = await health(client_of, edge)

    assert live == (200, {"status": "alive"})
    assert ready == (200, {"status": "degraded", "postgresql": "ok", "redis": "away"})


async def test_without_postgresql_the_app_is_alive_but_not_ready(app_with, client_of, patient_redis):
    async with app_with(database_url=NO_DATABASE) as edge:
        live, ready = await health(client_of, edge)

    assert live == (200, {"status": "alive"})
    assert ready == (503, {"status": "unavailable", "postgresql": "away", "redis": "ok"})


@pytest.mark.parametrize("change", ["UPDATE alembic_version SET version_num = '0000'", "DROP TABLE alembic_version"])
async def test_with_an_outdated_schema_the_app_is_not_ready(
    app_with, client_of, own_database, own_database_url, change, patient_redis
):
    async with own_database.begin() as tx:
        await tx._connection.execute(change)

    async with app_with(database_url=own_database_url) as edge:
        _, ready = await health(client_of, edge)

    assert ready == (503, {"status": "unavailable", "postgresql": "outdated", "redis": "ok"})


def measured(text):
    """Samples of Prometheus' text format by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_count_requests_by_route_and_not_by_path(app_with, client_of, make_key, tenant):
    async with app_with() as edge, client_of(edge, await make_key(tenant)) as client:
        made = (await client.post("/api/v1/sessions", json={"agent_id": "a"}, headers={"Idempotency-Key": "k"})).json()
        await client.post("/api/v1/sessions", json={"agent_id": "a"}, headers={"Idempotency-Key": "k"})
        for _ in range(3):
            await client.get(f"/api/v1/sessions/{made['id']}")
        await client.get("/api/v1/sessions/x")
        await client.get(f"/nowhere/{made['id']}")
        answer = await client.get("/metrics")

    counted = measured(answer.text)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert made["id"] not in answer.text
    requests = "holdfast_request_seconds_count"
    assert counted[(requests, "/api/v1/sessions/{session_id}", "200", "GET")] == 3
    assert counted[(requests, "/api/v1/sessions/{session_id}", "404", "GET")] == 1
    assert counted[(requests, "404", "GET", "unrouted")] == 1
    assert counted[("holdfast_idempotent_replays_total",)] == 1
    assert counted[("holdfast_postgresql_up",)] == 1
    assert counted[("holdfast_outbox_events",)] >= 0
    assert counted[("holdfast_relayed_total",)] >= 0


async def test_metrics_say_of_each_lock_whether_every_worker_of_files_that_is_at_work_has_it(
    app_with, client_of, own_database, own_database_url
):
    async with own_database.begin() as tx:
        for seconds_ago, locks in (
            (0, '{"landlock": true, "seccomp": true}'),
            (0, '{"landlock": false}'),
            (60, '{"limits": false}'),
        ):
            await tx._connection.execute(
                "INSERT INTO worker_heartbeats (worker_id, queue, started_at, seen_at, locks) VALUES "
                "(gen_random_uuid(), 'attachments', now(), now() - make_interval(secs => $1), $2)",
                seconds_ago,
                locks,
            )
    async with app_with(database_url=own_database_url) as edge, client_of(edge) as client:
        answer = await client.get("/metrics")

    told = {key[1]: value for key, value in measured(answer.text).items() if key[0] == "holdfast_inspection_lock"}
    assert told == {"landlock": 0, "seccomp": 1}


ASKED_TOGETHER = 10


async def readers_that_wait(database):
    async with database.connect() as tx:
        return await tx._connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE relation = 'relay_progress'::regclass AND NOT granted"
        )


async def test_however_many_ask_for_the_metrics_one_connection_reads_for_all_of_them(
    app_with, client_of, own_database, own_database_url
):
    async with app_with(database_url=own_database_url) as edge, client_of(edge) as client:
        async with own_database.begin() as tx:
            await tx._connection.execute("LOCK TABLE relay_progress")
            asking = [asyncio.create_task(client.get("/metrics")) for _ in range(ASKED_TOGETHER)]
            await until(lambda: edge.app.state.parts.backlogs._wanted == ASKED_TOGETHER)
            await until(lambda: readers_that_wait(own_database))
            waiting = await readers_that_wait(own_database)
        answers = await asyncio.gather(*asking)

    assert waiting == 1
    assert {answer.status_code for answer in answers} == {200}


async def test_metrics_are_there_without_postgresql(app_with, client_of):
    async with app_with(database_url=NO_DATABASE) as edge, client_of(edge) as client:
        answer = await client.get("/metrics")

    assert answer.status_code == 200
    assert measured(answer.text)[("holdfast_postgresql_up",)] == 0


async def every_route(client, canary="canary"):
    """One well-meant call of every route; their statuses."""
    text = f"{canary}-text"
    opened = await client.post(
        "/api/v1/sessions",
        json={
            "agent_id": f"{canary}-agent",
            "title": text,
            "external_id": f"{canary}-external",
            "system_prompt": text,
            "metadata": {text: text},
            "tags": [text],
        },
        headers={"Idempotency-Key": f"{canary}-idempotency"},
    )
    path = f"/api/v1/sessions/{opened.json()['id']}"
    answers = [
        opened,
        await client.post(f"{path}/activate"),
        await client.get("/api/v1/sessions", params={"tag": text, f"metadata.{text}": text}),
        await client.get(path),
        await client.patch(path, json={"title": text, "metadata": {text: text}}),
        sent := await client.post(f"{path}/messages", json={"content": text, "metadata": {text: text}}),
        await client.post(f"{path}/messages/batch", json={"messages": [{"content": text}]}),
        await client.get(f"{path}/messages"),
        await client.get(f"{path}/messages/{sent.json()['id']}"),
        await client.delete(f"{path}/messages/{sent.json()['id']}"),
        await client.get(f"{path}/events"),
        await client.post(f"{path}/suspend"),
        await client.post(f"{path}/resume"),
        key := await client.post("/api/v1/api-keys", json={"name": f"{canary}-key"}),
        await client.get("/api/v1/api-keys"),
        await client.delete(f"/api/v1/api-keys/{key.json()['api_key']['id']}"),
        await client.delete(path),
        await client.delete(f"{path}?mode=purge"),
        await client.get("/schema"),
        await client.get("/schema/openapi.json"),
        await client.get("/problems/not_found"),
        await client.get("/metrics"),
    ]
    return [answer.status_code for answer in answers], key.json()["secret"]


DONE = [201, 200, 200, 200, 200, 201, 201, 200, 200, 204, 200, 200, 200, 201, 200, 204, 204, 204, 200, 200, 200, 200]


async def test_without_redis_every_route_works(app_with, client_of, make_key, tenant):
    async with app_with(redis_url=NO_REDIS) as edge, client_of(edge, await make_key(tenant)) as client:
        statuses, _ = await every_route(client)

    assert statuses == DONE


async def test_without_postgresql_every_route_says_503(app_with, client_of, settings, app):
    async with client_of(app) as client:
        document = (await client.get("/schema/openapi.json")).json()
    claims = {"sub": "u", "tenant": "t", "scope": "admin", "exp": time.time() + 600}
    claims |= {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    token = jwt.encode(claims, settings.jwt_secret, algorithm="HS256")
    bodies = {
        "createSession": {"agent_id": "a"},
        "changeSession": {"title": "t"},
        "appendMessage": {"content": "x"},
        "appendMessages": {"messages": [{"content": "x"}]},
        "actOnToolCall": {"action": "start"},
        "createApiKey": {"name": "x"},
        "createWebhook": {"url": "https://hooks.example.com"},
        "changeWebhook": {"description": "x"},
        "redeliverSince": {"since": "2026-01-31T12:00:00Z"},
    }
    async with app_with(database_url=NO_DATABASE) as edge:
        for secret in (token, "hf_unknown"):
            async with client_of(edge, secret) as client:
                for path, methods in document["paths"].items():
                    for method, operation in methods.items():
                        if "security" not in operation:
                            continue
                        address = path
                        address = re.sub(r"{\w+}", "019aabcd-0000-7abc-8def-0123456789ab", address)
                        body = bodies.get(operation["operationId"])
                        answer = await client.request(method, address, **({"json": body} if body else {}))

                        assert answer.status_code == 503
                        assert method == "head" or answer.json()["code"] == "unavailable"
                        assert answer.headers["retry-after"] == "1"


async def test_when_postgresql_comes_back_the_same_app_goes_on(app_with, client_of):
    folder = Path(tempfile.mkdtemp(prefix="holdfast-tests-"))
    servers = EmbeddedServers(folder, redis=False, durable=False, say=lambda _: None)
    try:
        with servers:
            url = servers.endpoints.database_url
            await asyncio.to_thread(migrate.upgrade, url)
            database = Database(url, connections_max=1)
            await database.open()
            wish = KeyWish(tenant_id="t", name="n", user_id=None, scopes=[Scope.ADMIN], lifetime=None)
            async with database.begin() as tx:
                _, secret = await create_api_key(tx, wish)
            await database.close()
            async with app_with(database_url=url, redis_url=NO_REDIS) as edge, client_of(edge, secret) as client:
                before = await client.post("/api/v1/sessions", json={"agent_id": "a", "activate": True})
                path = f"/api/v1/sessions/{before.json()['id']}/messages"
                servers.stop_postgres()
                away = [await client.post(path, json={"content": "away"}) for _ in range(5)]
                _, not_ready = await health(client_of, edge)

                servers.start_postgres()

                async with asyncio.timeout(DEADLINE_SECONDS):
                    back = away[-1]
                    while back.status_code == 503:
                        await asyncio.sleep(0.05)
                        back = await client.post(path, json={"content": "back"})
                _, ready = await health(client_of, edge)
                messages = (await client.get(path)).json()["data"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    assert before.status_code == 201
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in away} == {(503, "1")}
    assert (not_ready[0], not_ready[1]["postgresql"]) == (503, "away")
    assert (back.status_code, ready[0]) == (201, 200)
    assert [message["content"] for message in messages] == ["back"]


async def test_no_log_line_holds_what_was_said_or_a_secret(app, client_of, make_key, tenant, settings, log_lines):
    secret = await make_key(tenant)
    claims = {"sub": "u", "tenant": tenant, "scope": "sessions:read", "exp": time.time() + 600}
    claims |= {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    token = jwt.encode(claims, settings.jwt_secret, algorithm="HS256")
    async with client_of(app, secret) as client, client_of(app, token) as user:
        statuses, new_secret = await every_route(client)
        bad = [
            await client.post("/api/v1/sessions", json={"agent_id": "a", "title": "canary" * 50, "canary": 1}),
            await client.post("/api/v1/sessions", content=b'{"canary', headers={"Content-Type": "application/json"}),
            await client.get("/api/v1/sessions", params={"canary": "canary", "cursor": "canary"}),
            await client.get("/api/v1/sessions", headers={"If-None-Match": "canary", "Idempotency-Key": "canary"}),
            await user.post("/api/v1/sessions", json={"agent_id": "canary"}),
            await user.get("/api/v1/sessions", headers={"Authorization": "Bearer canary.canary.canary"}),
            await user.get("/api/v1/sessions", headers={"Authorization": "Bearer hf_canary"}),
        ]

    lines = log_lines()
    assert statuses == DONE
    assert [answer.status_code for answer in bad] == [400, 400, 400, 200, 403, 401, 401]
    records = [json.loads(line) for line in lines]
    requests = [record for record in records if record["event"] == "request"]
    assert len(requests) == len(DONE) - 1 + len(bad)  # all but /metrics, which machines ask for all day long
    for known in ("canary", secret, new_secret, token, *token.split(".")[1:], secret[3:], new_secret[3:]):
        assert not [line for line in lines if known in line], known


async def test_every_request_has_one_line_with_its_id_and_outcome(app, client_of, make_key, tenant, log_lines):
    async with client_of(app, await make_key(tenant)) as client:
        await client.get("/api/v1/sessions", headers={"X-Request-Id": "of-the-log-1"})
        await client.get("/nowhere%0a%22{}\u2028%1b[31m", headers={"X-Request-Id": "of-the-log-2"})
        await client.get("/health/live", headers={"X-Request-Id": "of-the-log-3"})

    records = [json.loads(line) for line in log_lines()]
    found = {r["request_id"]: r for r in records if str(r.get("request_id")).startswith("of-the-log")}
    assert list(found) == ["of-the-log-1", "of-the-log-2"]
    assert {name: found["of-the-log-1"][name] for name in ("method", "route", "path", "status", "level")} == {
        "method": "GET",
        "route": "/api/v1/sessions",
        "path": "/api/v1/sessions",
        "status": 200,
        "level": "info",
    }
    assert (found["of-the-log-2"]["route"], found["of-the-log-2"]["status"]) == ("unrouted", 404)


async def test_what_breaks_is_logged_with_its_request_and_without_its_words(
    app, api, client_of, open_session, sql, log_lines
):
    session = await open_session(title="canary-title", metadata={"k": "canary-metadata"})
    await sql("""UPDATE sessions SET config = '{"canary": 1}' WHERE id = CAST(:id AS uuid)""", id=session["id"])

    answer = await api.get(f"/sessions/{session['id']}", headers={"X-Request-Id": "broke-1"})

    lines = log_lines()
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    (broke,) = [record for line in lines if (record := json.loads(line))["event"] == "request.broke"]
    assert broke["request_id"] == "broke-1"
    assert broke["errors"] == ["msgspec.ValidationError"]
    assert [frame for frame in broke["frames"] if "store/session_rows.py" in frame and frame.endswith(" session_of")]
    assert not [line for line in lines if "canary" in line]
