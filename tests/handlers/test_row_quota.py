"""A tenant whose rows take more than it is allowed adds none, and goes on reading, deciding and erasing."""

from __future__ import annotations

from workers.jobs.estimate_rows import sweep_row_estimates


async def test_a_tenant_beyond_its_quota_adds_no_rows_and_can_still_erase(own_app, monkeypatch):
    monkeypatch.setattr("service.handlers.row_quota.TRUSTED_SECONDS", 0)
    async with own_app(tenant_rows_bytes=20_000) as own:
        session = (await own.api.post("/sessions", json={"agent_id": "a", "activate": True})).json()["id"]
        messages = f"/sessions/{session}/messages"
        keyed = {"headers": {"Idempotency-Key": "k"}, "json": {"content": "".join(map(str, range(8000)))}}
        first = await own.api.post(messages, **keyed)
        await sweep_row_estimates(own.database)

        refused = [
            await own.api.post(messages, json={"content": "x"}),
            await own.api.post(f"{messages}/batch", json={"messages": [{"content": "x"}]}),
            await own.api.post("/sessions", json={"agent_id": "a"}),
        ]
        again = await own.api.post(messages, **keyed)
        shown = (await own.api.get("http://holdfast.test/metrics")).text
        read = await own.api.get(messages)
        erased = await own.api.delete(f"{messages}/{first.json()['id']}")
        purged = await own.api.delete(f"/sessions/{session}?mode=purge")
        await own.sql("UPDATE tenant_rows SET estimated_at = estimated_at - interval '1 minute'")
        await sweep_row_estimates(own.database)
        taken = await own.api.post("/sessions", json={"agent_id": "a"})

    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(507, "storage_full")}
    assert refused[0].json()["detail"].startswith("Your sessions and messages take as much space")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert 'holdfast_tenant_row_bytes{tenant="t"}' in shown
    assert (read.status_code, erased.status_code, purged.status_code) == (200, 204, 204)
    assert taken.status_code == 201


async def test_the_metrics_name_the_largest_tenants_only(own_app):
    async with own_app() as own:
        await own.sql(
            "INSERT INTO tenant_rows SELECT 'tenant-' || n, n, now() FROM generate_series(1, 50) n RETURNING bytes"
        )

        shown = (await own.api.get("http://holdfast.test/metrics")).text

    named = [line for line in shown.splitlines() if line.startswith("holdfast_tenant_row_bytes{")]
    assert len(named) == 20
    assert 'holdfast_tenant_row_bytes{tenant="tenant-50"} 50.0' in named
