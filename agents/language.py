"""by_model: an agent that is a language model with the agent's tools. Any model that pydantic-ai knows, by name."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from pydantic_ai.models import Model
from pydantic_ai.models.decision import DecisionModel

from headwater.agents.activation import Activation
from headwater.agents.agent import Decision
from headwater.agents.context import Context, Evidence, situation_of
from headwater.agents.conversation import Conversation, Terms
from headwater.agents.model import ModelChooser, named_model
from headwater.agents.table import Effects, effects_of
from headwater.lineage.errors import Misused
from headwater.lineage.topic import Topic

Words: TypeAlias = str | Callable[[Activation], str]
"""A text with `{key}`, `{rule}` and `{phase}` of the activation, or a function of it."""


def by_model(
    name: str, output: type[Any], instructions: str = "", *, model: str | Model[Any] | None = None, situation: Words | None = None,
    evidence: Words | None = None, where: Mapping[str, Any] | None = None, limit: int = 8, publish: Topic[Any] | None = None,
    effects: Effects | None = None, settings: Mapping[str, Any] | None = None, requests: int | None = 8, tool_calls: int | None = 16,
    tokens: int | None = 100_000, finds: int = 5,
) -> "ByModel":  # fmt: skip
    """The function of an agent: `agent(wakes_on=[…], publishes=[plans], tools=[weather])(by_model("recover", Plan, publish=plans))`.

    output        the type of the choice, a pydantic model: mostly the topic's
    instructions  what the model is to do and by what rules
    model         pydantic-ai's name, such as "openai:gpt-5", "anthropic:…", "ollama:…", or a model of its; None: the one that
                  HEADWATER_MODEL names. The bundled decision model calls no tools: it chooses from the evidence
    situation     what is the case; None: what the activation says
    evidence      what is searched before the model is asked, and where; `limit` hits of it; None: nothing
    publish       the topic on which the choice goes out, under the activation's key;  effects  (choice, activation) → what else is done
    settings      temperature, max_tokens and the like, as pydantic-ai names them
    requests, tool_calls, tokens   at most so many in one attempt
    finds         hits of one search that the model asks for by itself; 0: it may not search

    The agent's tools that read are called for the model; what it asks of the others are effects of the decision. Raises Misused.
    """
    if isinstance(model, str) and ":" not in model:
        raise Misused(f'by_model {name}: model={model!r}; write provider and model, such as "openai:gpt-5"')
    terms = Terms(instructions, dict(settings or {}), requests, tool_calls, tokens, finds)
    return ByModel(name, output, terms, model, situation, evidence, where, limit, publish, effects)


@dataclass(frozen=True, eq=False)
class ByModel:
    """See `by_model`."""

    name: str
    output: type[Any]
    terms: Terms
    model: str | Model[Any] | None = None
    situation: Words | None = None
    evidence: Words | None = None
    where: Mapping[str, Any] | None = None
    limit: int = 8
    publish: Topic[Any] | None = None
    effects: Effects | None = None
    __name__: str = field(init=False, repr=False)
    _models: "WeakKeyDictionary[asyncio.AbstractEventLoop, Model[Any]]" = field(init=False, repr=False, default_factory=WeakKeyDictionary)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__name__", self.name)

    @property
    def digest(self) -> str:
        """What it is made of: other instructions or another model make another agent."""
        model = self.model if isinstance(self.model, str) or self.model is None else f"{self.model.system}:{self.model.model_name}"
        words = [word if isinstance(word, str) else getattr(word, "__qualname__", "") for word in (self.situation, self.evidence)]
        return repr((self.output.__name__, self.terms, model, words, self.where, self.limit, self.publish and self.publish.name))

    async def __call__(self, activation: Activation, context: Context) -> Decision[Any]:
        """Raises Misused, AgentFailed, Unavailable, Forbidden."""
        case = situation_of(activation) if self.situation is None else _filled(self.situation, activation)
        shown: list[Evidence] = []
        if self.evidence is not None:
            shown = await context.retrieve(_filled(self.evidence, activation), limit=self.limit, where=self.where)
        model = self._speaking(context)
        if model is None:
            decision = await context.choose(self.output, shown, situation=case)
            return self._with_effects(decision, activation)
        conversation = Conversation(context, model, self.terms, case, shown)
        decision = await context.consult(lambda: conversation.hold(self.output))
        if decision.choice is None:
            return decision
        return self._with_effects(decision, activation).with_effects(*conversation.proposed)

    def _with_effects(self, decision: Decision[Any], activation: Activation) -> Decision[Any]:
        if decision.choice is None:
            return decision
        return decision.with_effects(*effects_of(decision.choice, activation, self.publish, self.effects))

    def _speaking(self, context: Context) -> Model[Any] | None:
        """The language model; None: what answers choices is none. Clients belong to a loop, so each loop has its own."""
        if isinstance(self.model, str):
            loop = asyncio.get_running_loop()
            if loop not in self._models:
                self._models[loop] = named_model(self.model)
            return self._models[loop]
        model = self.model if self.model is not None else context.chooser.model if isinstance(context.chooser, ModelChooser) else None
        return None if isinstance(model, DecisionModel) else model


def _filled(words: Words, activation: Activation) -> str:
    if callable(words):
        return words(activation)
    return words.replace("{key}", activation.key).replace("{rule}", activation.rule).replace("{phase}", activation.phase)
