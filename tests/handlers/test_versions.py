"""ETag, If-Match and If-None-Match, as API 1 has them."""

from __future__ import annotations

import pytest

STALE = ['"1"', '"1", "3"', '"999999999999999999"', '"999999999999999999999999"', '"x"', '""', 'W/"2"', '"٢"'.encode()]
CURRENT = ['"2"', '"1", "2"', '"1","2"', "*", ' "2" ', 'W/"9", "2"', '"a,b", "2"']
UNREADABLE = ["2", '"2', "", ",", '"2" "3"', "W/2", ", ".join(['"2"'] * 21), '"2",', 'w/"2"']


@pytest.fixture
async def session(api, open_session):
    """At version 2."""
    opened = await open_session(activate=False)
    return (await api.post(f"/sessions/{opened['id']}/activate")).json()


async def write_if_match(api, session, tag):
    path, headers = f"/sessions/{session['id']}", {"If-Match": tag}
    return [
        await api.patch(path, json={"title": "changed"}, headers=headers),
        await api.post(f"{path}/suspend", headers=headers),
        await api.delete(path, headers=headers),
        await api.delete(path, params={"mode": "purge"}, headers=headers),
    ]


@pytest.mark.parametrize("tag", [tag for tag in STALE if isinstance(tag, str)])
async def test_a_write_with_a_stale_version_changes_nothing(api, session, tag):
    answers = await write_if_match(api, session, tag)

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(412, "version_mismatch")] * 4
    assert {answer.json()["current_version"] for answer in answers} == {2}
    assert (await api.get(f"/sessions/{session['id']}")).json() == session


@pytest.mark.parametrize("tag", UNREADABLE)
async def test_a_header_that_names_no_version_is_refused(api, session, tag):
    answers = await write_if_match(api, session, tag)

    assert [answer.status_code for answer in answers] == [400] * 4
    assert {answer.json()["errors"][0]["path"] for answer in answers} == {"header.If-Match"}
    assert (await api.get(f"/sessions/{session['id']}")).json() == session


@pytest.mark.parametrize("tag", CURRENT)
async def test_a_write_with_the_current_version_goes_through(api, session, tag):
    answer = await api.patch(f"/sessions/{session['id']}", json={"title": "changed"}, headers={"If-Match": tag})

    assert (answer.status_code, answer.json()["version"], answer.headers["etag"]) == (200, 3, '"3"')


async def test_every_change_gives_a_new_version(api, session):
    path, seen = f"/sessions/{session['id']}", ['"2"']
    for change in (
        lambda: api.patch(path, json={"title": "x"}),
        lambda: api.post(f"{path}/messages", json={"content": "x"}),
        lambda: api.post(f"{path}/suspend"),
        lambda: api.post(f"{path}/resume"),
        lambda: api.delete(path),
    ):
        await change()
        seen.append((await api.get(path)).headers["etag"])

    assert seen == ['"2"', '"3"', '"4"', '"5"', '"6"', '"7"']


@pytest.mark.parametrize("tag", ['"2"', 'W/"2"', "*", '"1", "2"', '"a,b",W/"2"'])
async def test_an_unchanged_session_is_not_sent_again(api, session, tag):
    answer = await api.get(f"/sessions/{session['id']}", headers={"If-None-Match": tag})

    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"2"')


@pytest.mark.parametrize("tag", ['"1"', '"x"', '"22"'])
async def test_a_changed_session_is_sent(api, session, tag):
    answer = await api.get(f"/sessions/{session['id']}", headers={"If-None-Match": tag})

    assert (answer.status_code, answer.json()) == (200, session)


async def test_an_unreadable_if_none_match_is_refused(api, session):
    answer = await api.get(f"/sessions/{session['id']}", headers={"If-None-Match": "2"})

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "header.If-None-Match")


async def test_a_session_that_is_not_there_is_404_whatever_the_version(api):
    path = "/sessions/019aabcd-0000-7abc-8def-0123456789ab"

    assert (await api.get(path, headers={"If-None-Match": "*"})).status_code == 404
    assert (await api.patch(path, json={}, headers={"If-Match": '"1"'})).status_code == 404


async def test_past_its_time_a_session_has_a_new_version(api, session, let_expire):
    await let_expire(session["id"])

    answer = await api.get(f"/sessions/{session['id']}", headers={"If-None-Match": '"2"'})

    assert (answer.status_code, answer.headers["etag"]) == (200, '"3"')
