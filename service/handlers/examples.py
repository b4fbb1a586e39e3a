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
    "CreatedApiKey": {
        "api_key": {
            "id": "019aabcd-0004-7abc-8def-0123456789ab",
            "name": "support-agent",
            "user_id": None,
            "scopes": ["sessions:read", "sessions:write"],
            "hint": "c4Qz",
            "created_at": "2026-01-31T12:00:00.123456Z",
            "expires_at": "2026-05-01T12:00:00.123456Z",
            "revoked_at": None,
        },
        "secret": "hf_" + 39 * "x" + "c4Qz",
    },
    "Session": {
        "id": SESSION_ID,
        "user_id": "support-agent",
        "agent_id": "support-agent",
        "status": "active",
        "title": "Order 1042 is late",
        "external_id": "ticket-1042",
        "config": {
            "max_messages": 10_000,
            "max_attachments": 100,
            "max_attachment_size": 10_485_760,
            "timeout_minutes": 1440,
            "approval_timeout_seconds": None,
            "allowed_tools": [],
            "blocked_tools": [],
            "approval_tools": [],
            "enable_code_interpreter": True,
            "enable_mcp_tools": True,
            "enable_file_search": True,
            "system_prompt_override": None,
        },
        "metadata": {"channel": "web", "order": 1042},
        "tags": ["orders"],
        "message_count": 1,
        "attachment_count": 0,
        "pending_tool_call_count": 0,
        "version": 1,
        "created_at": "2026-01-31T12:00:00.123456Z",
        "updated_at": "2026-01-31T12:00:00.123456Z",
        "last_message_at": "2026-01-31T12:00:00.123456Z",
        "expires_at": "2026-02-01T12:00:00.123456Z",
        "ended_at": None,
        "end_reason": None,
    },
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
