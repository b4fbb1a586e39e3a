"""Examples for the OpenAPI document: small, real, and checked against their types by a test."""

from __future__ import annotations

from typing import Any

SESSION_ID = "019aabcd-0000-7abc-8def-0123456789ab"
MESSAGE_ID = "019aabcd-0001-7abc-8def-0123456789ab"

EXAMPLES: dict[str, Any] = {
    "CreateSession": {
        "agent_id": "support-agent",
        "title": "Order 1042 is late",
        "external_id": "ticket-1042",
        "config": {"timeout_minutes": 1440},
        "system_prompt": "You help customers of a bookshop.",
        "metadata": {"channel": "web", "order": 1042},
        "tags": ["orders"],
        "activate": True,
    },
    "ChangeSession": {"title": "Order 1042: refund", "metadata": {"order": None, "refund": True}},
    "MessageDraft": {"role": "user", "content": "Where is my order?"},
    "MessageBatch": {
        "messages": [
            {"role": "user", "content": "Where is my order?"},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "It arrives tomorrow."}],
                "usage": {"input_tokens": 412, "output_tokens": 9},
            },
        ]
    },
    "CreateApiKey": {"name": "support-agent", "scopes": ["sessions:read", "sessions:write"], "expires_in_days": 90},
    "Message": {
        "id": MESSAGE_ID,
        "session_id": SESSION_ID,
        "seq": 2,
        "role": "user",
        "content": "Where is my order?",
        "attachments": [],
        "tool_calls": [],
        "tool_call_id": None,
        "parent_id": None,
        "metadata": {},
        "usage": None,
        "created_at": "2026-01-31T12:00:00.123456Z",
    },
    "Event": {
        "id": "019aabcd-0002-7abc-8def-0123456789ab",
        "type": "message.created",
        "session_id": SESSION_ID,
        "seq": 4,
        "occurred_at": "2026-01-31T12:00:00.123456Z",
        "actor": {"kind": "service", "subject": "support-agent"},
        "request_id": "019aabcd-0003-7abc-8def-0123456789ab",
        "data": {"message_id": MESSAGE_ID, "message_seq": 2, "role": "user"},
    },
}
