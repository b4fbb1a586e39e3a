from __future__ import annotations

import asyncio


async def test_fifty_parallel_appends_are_gapless_and_all_there(api):
    session = (await api.post("/sessions", json={"agent_id": "a", "activate": True})).json()
    path = f"/sessions/{session['id']}/messages"

    answers = await asyncio.gather(*(api.post(path, json={"content": f"m{n}"}) for n in range(50)))

    assert {answer.status_code for answer in answers} == {201}
    assert sorted(answer.json()["seq"] for answer in answers) == list(range(1, 51))
    page = (await api.get(path, params={"limit": 200, "order": "asc"})).json()
    assert [message["seq"] for message in page["data"]] == list(range(1, 51))
    assert {message["content"] for message in page["data"]} == {f"m{n}" for n in range(50)}
