"""What an OpenAI-compatible endpoint answers, as JSON: of chat completions, and of responses."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

CHAT, RESPONSES = "/chat/completions", "/responses"


class ToolCall(NamedTuple):
    """A model's wish to have a tool called; `arguments` as JSON text, which may be broken."""

    id: str
    name: str
    arguments: str


class Said(NamedTuple):
    """One turn of a model: words, or calls of tools, and the tokens it read and wrote."""

    text: str = ""
    calls: Sequence[ToolCall] = ()
    read: int = 10
    wrote: int = 5


def body_of(path: str, model: str, n: int, said: Said) -> bytes:
    """The answer number `n` of an endpoint at a path that ends with CHAT or RESPONSES."""
    return json.dumps(_chat(model, n, said) if path.endswith(CHAT) else _response(model, n, said)).encode()


def output_tool(path: str, asked: Mapping[str, Any]) -> str | None:
    """The tool by which a structured answer is to be given, if the request offers one: it is the one that must or may be called last."""
    names = tools_of(path, asked)
    return next((name for name in names if name.startswith("final_result")), None)


def tools_of(path: str, asked: Mapping[str, Any]) -> list[str]:
    """The names of the tools that a request offers."""
    offered = asked.get("tools") or ()
    if path.endswith(CHAT):
        return [tool["function"]["name"] for tool in offered if tool.get("type") == "function"]
    return [tool["name"] for tool in offered if tool.get("type") == "function"]


def _chat(model: str, n: int, said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if said.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in said.calls
        ]
    usage = {"prompt_tokens": said.read, "completion_tokens": said.wrote, "total_tokens": said.read + said.wrote}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if said.calls else "stop", "logprobs": None}
    return {"id": f"chatcmpl-{n}", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}


def _response(model: str, n: int, said: Said) -> dict[str, Any]:
    output: list[dict[str, Any]] = [
        {"type": "function_call", "id": f"fc_{call.id}", "call_id": call.id, "name": call.name, "arguments": call.arguments,
         "status": "completed"}
        for call in said.calls
    ]  # fmt: skip
    if said.text:
        content = [{"type": "output_text", "text": said.text, "annotations": []}]
        output.append({"type": "message", "id": f"msg_{n}", "role": "assistant", "status": "completed", "content": content})
    usage = {
        "input_tokens": said.read, "output_tokens": said.wrote, "total_tokens": said.read + said.wrote,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    return {
        "id": f"resp_{n}", "object": "response", "created_at": 0, "model": model, "status": "completed", "output": output,
        "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "temperature": None, "top_p": None,
    }  # fmt: skip
