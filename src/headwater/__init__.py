"""headwater: event streams in; fresh context and accountable agent decisions out.

The public face. Names load when they are first used, so that `import headwater` costs nothing: neither torch nor Bytewax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.agents.absence import Absence as Absence
    from headwater.agents.activation import Activation as Activation
    from headwater.agents.agent import Agent as Agent
    from headwater.agents.agent import Decision as Decision
    from headwater.agents.agent import Option as Option
    from headwater.agents.agent import Publish as Publish
    from headwater.agents.agent import agent as agent
    from headwater.agents.anomaly import Anomaly as Anomaly
    from headwater.agents.breaker import Breaker as Breaker
    from headwater.agents.budget import Budget as Budget
    from headwater.agents.change import Change as Change
    from headwater.agents.context import Context as Context
    from headwater.agents.heartbeat import Heartbeat as Heartbeat
    from headwater.agents.join import Join as Join
    from headwater.agents.language import by_model as by_model
    from headwater.agents.mcp_tools import McpServer as McpServer
    from headwater.agents.openapi import OpenApi as OpenApi
    from headwater.agents.rules import Rate as Rate
    from headwater.agents.rules import Threshold as Threshold
    from headwater.agents.sequence import Sequence as Sequence
    from headwater.agents.standing import Standing as Standing
    from headwater.agents.table import by_rules as by_rules
    from headwater.agents.tool import Call as Call
    from headwater.agents.tool import Tool as Tool
    from headwater.agents.tool import tool as tool
    from headwater.agents.when import When as When
    from headwater.enrichers.chunker import Markdown as Markdown
    from headwater.enrichers.chunker import Records as Records
    from headwater.enrichers.chunker import Tokens as Tokens
    from headwater.enrichers.document import Delete as Delete
    from headwater.enrichers.document import Document as Document
    from headwater.enrichers.document import Files as Files
    from headwater.enrichers.document import document as document
    from headwater.enrichers.latest import Latest as Latest
    from headwater.enrichers.lookup import Lookup as Lookup
    from headwater.enrichers.openai import OpenAIEmbedder as OpenAIEmbedder
    from headwater.enrichers.recent import Recent as Recent
    from headwater.enrichers.service import Http as Http
    from headwater.flows.app import App as App
    from headwater.flows.bridge import Bridge as Bridge
    from headwater.flows.drop import Drop as Drop
    from headwater.flows.poll import Poll as Poll
    from headwater.flows.schedule import Schedule as Schedule
    from headwater.flows.webhook import Webhook as Webhook
    from headwater.lineage.event import Event as Event
    from headwater.lineage.event import Position as Position
    from headwater.lineage.select import Select as Select
    from headwater.lineage.topic import Topic as Topic

_HOME = {
    "Absence": "agents.absence",
    "Activation": "agents.activation",
    "Agent": "agents.agent",
    "Anomaly": "agents.anomaly",
    "App": "flows.app",
    "Breaker": "agents.breaker",
    "Bridge": "flows.bridge",
    "Budget": "agents.budget",
    "Call": "agents.tool",
    "Change": "agents.change",
    "Context": "agents.context",
    "Decision": "agents.agent",
    "Delete": "enrichers.document",
    "Document": "enrichers.document",
    "Drop": "flows.drop",
    "Event": "lineage.event",
    "Files": "enrichers.document",
    "Heartbeat": "agents.heartbeat",
    "Http": "enrichers.service",
    "Join": "agents.join",
    "Latest": "enrichers.latest",
    "Lookup": "enrichers.lookup",
    "Markdown": "enrichers.chunker",
    "OpenAIEmbedder": "enrichers.openai",
    "OpenApi": "agents.openapi",
    "Option": "agents.agent",
    "Poll": "flows.poll",
    "McpServer": "agents.mcp_tools",
    "Position": "lineage.event",
    "Publish": "agents.agent",
    "Rate": "agents.rules",
    "Recent": "enrichers.recent",
    "Records": "enrichers.chunker",
    "Schedule": "flows.schedule",
    "Select": "lineage.select",
    "Sequence": "agents.sequence",
    "Standing": "agents.standing",
    "Threshold": "agents.rules",
    "Tokens": "enrichers.chunker",
    "Tool": "agents.tool",
    "Topic": "lineage.topic",
    "Webhook": "flows.webhook",
    "When": "agents.when",
    "agent": "agents.agent",
    "by_model": "agents.language",
    "by_rules": "agents.table",
    "document": "enrichers.document",
    "tool": "agents.tool",
}

__all__ = [*sorted(_HOME)]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"headwater.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
