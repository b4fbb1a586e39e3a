"""What the providers' APIs refuse beyond what their packages' types say, each rule with where it is published.

OpenAI, Chat Completions:
- an assistant message with `tool_calls` is followed by one `tool` message for each `tool_call_id`, and a `tool` message
  only ever answers a preceding `tool_calls`: the API's own 400s, word for word in github.com/agno-agi/agno/issues/3105
  and github.com/smarter-sh/smarter/issues/264;
- a function's name: `a-z, A-Z, 0-9, _ and -`, at most 64
  (docstring of `openai.types.shared_params.FunctionDefinition.name`);
- a call's id: at most 40 characters (`string_above_max_length`, github.com/vercel/ai/issues/5171);
- `arguments` is JSON in a string, and content is required unless there are tool calls
  (docstrings of `ChatCompletionMessageFunctionToolCallParam`, `ChatCompletionAssistantMessageParam`);
- at most 128 tool calls in a message (`array_above_max_length`, github.com/openai/openai-dotnet/issues/317).

Anthropic, Messages:
- results come in the very next message and first in its content, with nothing in between
  (platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls);
- turns of the same role in a row are combined (docstring of `MessageCreateParams.messages`), so they need not
  alternate. Ours do, with the user's first: it suits what refused anything else ("roles must alternate",
  errornotes.dev/en/errors/ai-tools/fixing-anthropic-400-roles-must-alternate-between-user-and-assistant), and leaves
  nothing to be combined such that words come before a result;
- `system` stands apart, at the top level (same docstring);
- the id of a call: `^[a-zA-Z0-9_-]+$` (the 400 in github.com/langchain-ai/langchain/pull/37756), unique
  (github.com/anthropics/claude-code/issues/20901); the name of a tool: `^[a-zA-Z0-9_-]{1,128}$`
  (platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools);
- text is neither empty nor white space alone (github.com/anthropics/claude-code/issues/59812 and 23369), and the
  assistant's last text does not end in white space ("final assistant content cannot end with trailing whitespace").
"""

from __future__ import annotations

import json
import re
from typing import Any

OPENAI_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
OPENAI_CALLS_MAX = 128
OPENAI_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ANTHROPIC_ID = re.compile(r"[A-Za-z0-9_-]+")
ANTHROPIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


def openai_faults(messages: list[dict[str, Any]]) -> list[str]:
    """Why OpenAI would refuse these messages; empty: it takes them."""
    faults: list[str] = []
    seen: set[str] = set()
    awaited: set[str] = set()
    for place, message in enumerate(messages):
        at = f"messages[{place}]"
        if message["role"] == "tool":
            if message["tool_call_id"] not in awaited:
                faults.append(f"{at}: a result of no call right before it")
            awaited.discard(message["tool_call_id"])
            continue
        if awaited:
            faults.append(f"{at}: results are missing before it")
        calls = message.get("tool_calls", [])
        if calls and message["role"] != "assistant":
            faults.append(f"{at}: calls of somebody else than the assistant")
        if message["content"] is None and not calls:
            faults.append(f"{at}: no content")
        if "tool_calls" in message and not 1 <= len(calls) <= OPENAI_CALLS_MAX:
            faults.append(f"{at}: {len(calls)} calls")
        for call in calls:
            faults += [f"{at}: {fault}" for fault in _openai_call_faults(call, seen)]
            seen.add(call["id"])
        awaited = {call["id"] for call in calls}
    return [*faults, "results are missing at the end"] if awaited else faults


def _openai_call_faults(call: dict[str, Any], seen: set[str]) -> list[str]:
    faults = []
    if not OPENAI_ID.fullmatch(call["id"]):
        faults.append(f"the id {call['id']!r}")
    if call["id"] in seen:
        faults.append("an id that was used before")
    if not OPENAI_NAME.fullmatch(call["function"]["name"]):
        faults.append(f"the name {call['function']['name']!r}")
    if not isinstance(json.loads(call["function"]["arguments"]), dict):
        faults.append("arguments that are no object")
    return faults


def anthropic_faults(messages: list[dict[str, Any]], system: str | None) -> list[str]:
    """Why Anthropic would refuse these messages; empty: it takes them."""
    faults: list[str] = []
    seen: set[str] = set()
    awaited: set[str] = set()
    if system is not None and not system.strip():
        faults.append("system: nothing but white space")
    for place, message in enumerate(messages):
        at, blocks = f"messages[{place}]", message["content"]
        if message["role"] != ("user", "assistant")[place % 2]:
            faults.append(f"{at}: not its turn")
        if not blocks:
            faults.append(f"{at}: no content")
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if {*results} != awaited or len(results) != len(awaited):
            faults.append(f"{at}: results {results} for {sorted(awaited)}")
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            faults.append(f"{at}: something before the results")
        for block in blocks:
            faults += [f"{at}: {fault}" for fault in _anthropic_block_faults(block, message["role"], seen)]
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        seen.update(calls)
        awaited = set(calls)
    return [*faults, "results are missing at the end"] if awaited else faults


def _anthropic_block_faults(block: dict[str, Any], role: str, seen: set[str]) -> list[str]:
    match block["type"]:
        case "text":
            is_wrong = not block["text"].strip() or (role == "assistant" and block["text"][-1].isspace())
            return [f"the text {block['text']!r}"] if is_wrong else []
        case "tool_use":
            wrong = {
                f"the id {block['id']!r}": not ANTHROPIC_ID.fullmatch(block["id"]),
                "an id that was used before": block["id"] in seen,
                f"the name {block['name']!r}": not ANTHROPIC_NAME.fullmatch(block["name"]),
                "an input that is no object": not isinstance(block["input"], dict),
                "a call by the user": role != "assistant",
            }
            return [fault for fault, is_so in wrong.items() if is_so]
        case "tool_result":
            is_wrong = role != "user" or not block["content"].strip()
            return ["a result that is empty or not in the user's turn"] if is_wrong else []
        case kind:
            return [f"a block of type {kind}"]
