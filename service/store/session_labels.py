"""Filters on metadata: found by an index where few sessions have what is wanted, by walking where many have.

Metadata stays the text that came (see `docs/decisions/0006-payloads-as-json-updates-in-place.md`). Beside it stands an
index of its parts, each under a hash of its tenant: so one tenant's labels are not looked for among another's. No plan
of PostgreSQL's own choice does for both, because it knows nothing of how many sessions have a label.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.sql.elements import ColumnElement

from service.store.engine import Statement
from service.store.tables import LABELLED, LABELS, sessions

FEW = 1000
"""As many sessions are found by the index and then sorted. To read the metadata of so many takes 5 ms, or 0.2 s where

each has 16 KiB. Of more than these, walking in the order of the page soon finds enough.
"""

BY_LABELS = Statement(
    sa.text("""
    SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true)
    """)
)
"""For the rest of the transaction: plans are made for the values at hand, and the whole table is never read."""

WANTED = sa.bindparam("wanted", type_=sa.Text)
OF_TENANT = """CAST('{"' || CAST(hashtextextended(:tenant_id, 0) AS text) || '":' || :wanted || '}' AS jsonb)"""
"""What is wanted, as `LABELS` has it."""


def wanted_of(filters: tuple[tuple[str, str], ...]) -> str:
    """The object that all these filters ask for together: keys with the JSON texts of their values."""
    return msgspec.json.encode({key: msgspec.Raw(value) for key, value in filters}).decode()


def equals(key: str, value: str) -> ColumnElement[bool]:
    """Whether a key has this very value, where that is an object or a list: to contain it is not enough."""
    found = sa.cast(sessions.c.metadata, pg.JSONB).op("->")(sa.bindparam(key, type_=sa.Text))
    return found == sa.cast(sa.bindparam(value, type_=sa.Text), pg.JSONB)


def either_way(query: sa.Select[Any]) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """The query over sessions, once by the index and once by walking: PostgreSQL runs one, as there are few or many."""
    of_tenant = sa.text(OF_TENANT).bindparams(sa.bindparam("tenant_id", type_=sa.Text), WANTED)
    labelled = (
        sa.select(sessions.c.id)
        .where(sa.literal_column(LABELS, pg.JSONB).op("@>")(of_tenant), sa.text(LABELLED))
        .limit(sa.literal_column(str(FEW + 1)))
        .cte("labelled", nesting=False)
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    count = sa.select(sa.func.count()).select_from(labelled).scalar_subquery()
    has_wanted = sa.cast(sessions.c.metadata, pg.JSONB).op("@>")(sa.cast(WANTED, pg.JSONB))
    # PostgreSQL takes a comparison for rare, and would sort all sessions; of a CASE it expects every second one.
    is_common = sa.case((has_wanted, sa.true()), else_=sa.false())
    return (
        query.where(count <= sa.literal_column(str(FEW)), sessions.c.id.in_(sa.select(labelled.c.id))),
        query.where(count > sa.literal_column(str(FEW)), is_common),
    )
