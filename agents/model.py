"""Models that answer typed choices: the bundled local one, and any that pydantic-ai knows. An agent cannot tell them apart."""

import asyncio
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from pydantic_ai import Agent as Run
from pydantic_ai.exceptions import AgentRunError, ModelAPIError, UserError
from pydantic_ai.messages import ModelMessage, ModelResponse, StructuredContent
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.models.decision import (
    ChoiceAnswer,
    ChoiceQuestion,
    DecisionAnswer,
    DecisionModel,
    DecisionModelSettings,
    DecisionQuestion,
    DecisionRequest,
    DecisionResponse,
    NoulAnswer,
    NoulQuestion,
    ScoreAnswer,
)
from pydantic_ai.settings import ModelSettings

from headwater.agents.agent import Decision, Option
from headwater.agents.context import Chooser, Chosen, Evidence
from headwater.agents.statement import Passage
from headwater.agents.weigh import Vectors, Weighed, best_of, weigh
from headwater.lineage.errors import AgentFailed, Misused, Unavailable

T = TypeVar("T")

os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")  # else it greets every terminal in the middle of what we show

_CACHED = 4096
_INSTRUCTIONS = (
    "Choose what the situation calls for. Rest the choice on the evidence, above all on rules that it states, and on nothing else. "
    "Give the ids of the evidence that the choice rests on, every option with the probability that it is right, and your reasons in a "
    "sentence or two."
)


class Embedder(Protocol):
    """Texts → unit vectors, as `enrichers.embed.Embedder` has it."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...


class Considered(BaseModel):
    """One option and the probability that it is right."""

    name: str
    confidence: float = Field(ge=0, le=1)


class Reasoned(BaseModel, Generic[T]):
    """The choice, and how it came about."""

    choice: T
    confidence: float = Field(ge=0, le=1, description="The probability that the choice is right.")
    rationale: str = Field(default="", description="Why, in a sentence or two.")
    options: list[Considered] = Field(default_factory=list, description="Every option that was considered.")
    evidence: list[str] = Field(default_factory=list, description="The ids of the evidence that the choice rests on.")


class LocalModel(DecisionModel[Any]):
    """Weighs options by the bundled embedding model; see `weigh`. Needs no network, gives every option a probability.

    It reads a state of the form `{"situation": text, "evidence": [{"id", "text"}, …]}`; of any other the text is the situation.
    `provider_details["weighed"]` of its responses holds, per field: probabilities, the probabilities without each piece of
    evidence, and the statement that spoke most for each option.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self._embedder = embedder
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()
        self._weighed: ContextVar[dict[str, Weighed] | None] = ContextVar("weighed", default=None)

    @property
    def model_name(self) -> str:
        return "local"

    @property
    def system(self) -> str:
        return "headwater"

    @property
    def client(self) -> None:
        return None

    @property
    def base_url(self) -> None:
        return None

    async def request(
        self, messages: list[ModelMessage], model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> ModelResponse:
        weighed: dict[str, Weighed] = {}
        token = self._weighed.set(weighed)
        try:
            response = await super().request(messages, model_settings, model_request_parameters)
        finally:
            self._weighed.reset(token)
        details = {name: _details(outcome) for name, outcome in weighed.items()}
        response.provider_details = {**(response.provider_details or {}), "weighed": details}
        return response

    async def decide(self, request: DecisionRequest, model_settings: DecisionModelSettings) -> DecisionResponse:
        situation, passages = _state(request.state)
        answers: dict[str, DecisionAnswer] = {}
        for name, question in request.questions.items():
            options, otherwise = _options(question)
            outcome = await asyncio.to_thread(weigh, situation, options, passages, self._embed, otherwise=otherwise)
            answers[name] = _answer(question, outcome)
            kept = self._weighed.get()
            if kept is not None:
                kept[name] = outcome
        return DecisionResponse(answers=answers, model_name=self.model_name)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts, those of earlier decisions from memory: procedures and options come again and again."""
        with self._lock:
            known = {text: self._vectors[text] for text in texts if text in self._vectors}
            for text in known:
                self._vectors.move_to_end(text)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            fresh = dict(zip(missing, self._embedder.embed(missing), strict=True))
            known |= fresh
            with self._lock:
                self._vectors.update(fresh)
                while len(self._vectors) > _CACHED:
                    self._vectors.popitem(last=False)
        return np.stack([known[text] for text in texts]) if known else np.zeros((0, 1), dtype=np.float32)


class ModelChooser:
    """Typed choices through pydantic-ai, whatever the model.

    A decision model answers with the probability of every option. A language model answers in the form of `Reasoned`, where
    probabilities are its own estimate; if it lists no options, the choice with its confidence is the only one.
    """

    def __init__(self, model: Model[Any]) -> None:
        self.model = model
        self._runs: dict[Any, Run[None, Any]] = {}

    async def choose(self, output: type[Any], situation: str, evidence: Sequence[Evidence]) -> Chosen:
        """A value of the type. Raises Misused, AgentFailed, Unavailable."""
        shown = [{"id": item.id, "document": item.document, "section": item.section, "text": item.text} for item in evidence]
        prompt = StructuredContent(value={"situation": situation, "evidence": shown})
        try:
            result = await self._run(output).run([prompt])
        except UserError as error:
            raise Misused(f"the model {self.model.model_name} cannot answer {_name(output)}: {error}") from error
        except ModelAPIError as error:
            raise Unavailable(f"the model {self.model.model_name} does not answer: {error}") from error
        except AgentRunError as error:
            raise AgentFailed(f"the model {self.model.model_name} gave no {_name(output)}: {error}") from error
        usage = result.usage
        tokens = {"input": usage.input_tokens, "output": usage.output_tokens}
        cost = {f"{name}_tokens": float(amount) for name, amount in tokens.items() if amount}
        decision: Decision[Any]
        if self._decides:
            decision = _decided(result.output, result.response.provider_details or {}, evidence, cost)
        else:
            decision = reasoned(result.output, evidence, cost)
        answer = result.output.model_dump(mode="json") if isinstance(result.output, BaseModel) else str(result.output)
        return Chosen(decision, self.model.model_name, prompt.content, answer, tokens, {"system": self.model.system})

    @property
    def _decides(self) -> bool:
        return isinstance(self.model, DecisionModel)

    def _run(self, output: type[Any]) -> Run[None, Any]:
        if output not in self._runs:
            asked: Any = output if self._decides else Reasoned[output]  # type: ignore[valid-type]
            instructions = None if self._decides else _INSTRUCTIONS
            self._runs[output] = Run(self.model, output_type=asked, instructions=instructions)
        return self._runs[output]


def model_from(setting: str | None, embedder: Embedder) -> Chooser:
    """The chooser of a setting: None or `local`; or pydantic-ai's `provider:model`, such as `openai:…`, `anthropic:…`, `ollama:…`.

    Raises Misused if the provider is unknown, lacks its key, or its package is not installed.
    """
    if setting is None or setting in ("", "local"):
        return ModelChooser(LocalModel(embedder))
    return ModelChooser(named_model(setting))


def named_model(setting: str) -> Model[Any]:
    """A hosted or local language model by pydantic-ai's name for it. Raises Misused as `model_from` does."""
    if ":" not in setting:
        raise Misused(f'model {setting!r}: write "local", or provider and model, such as "openai:gpt-5" or "ollama:llama3"')
    try:
        return infer_model(setting)
    except ImportError as error:
        raise Misused(f'model {setting!r}: {error}; install its provider with: pip install "headwater[hosted]"') from error
    except (UserError, ValueError) as error:
        raise Misused(f"model {setting!r}: {error}") from error


def _state(state: Any) -> tuple[str, list[Passage]]:
    if isinstance(state, dict) and isinstance(state.get("situation"), str):
        return state["situation"], [_passage(item) for item in state.get("evidence", ())]
    return (state if isinstance(state, str) else json.dumps(state, ensure_ascii=False)), []


def _passage(item: Mapping[str, Any]) -> Passage:
    """The title of a chunk's document is the first part of its section: "Rebooking" of "Rebooking › When to stop"."""
    return Passage(str(item["id"]), str(item["text"]), str(item.get("section") or "").split(" › ")[0])


def _options(question: DecisionQuestion) -> tuple[dict[str, str], str | None]:
    """Option → description, and the option for which nothing speaks: `no`, where only `yes` is described."""
    if isinstance(question, ChoiceQuestion):
        return {label: str(text or "") for label, text in question.criteria.items()}, None
    if isinstance(question, NoulQuestion):
        criteria = question.criteria
        yes = str(criteria.true if criteria is not None and criteria.true else _asked(question.instructions))
        if criteria is not None and criteria.false:
            return {"yes": yes, "no": str(criteria.false)}, None
        return {"yes": yes}, "no"
    return {str(level): str(text or "") for level, text in enumerate(question.criteria)}, None


def _asked(instructions: Any) -> str:
    if isinstance(instructions, dict):
        return str(instructions.get("option") or instructions.get("question") or instructions.get("field") or "")
    return str(instructions or "")


def _answer(question: DecisionQuestion, outcome: Weighed) -> DecisionAnswer:
    probabilities = outcome.probabilities
    if isinstance(question, ChoiceQuestion):
        return ChoiceAnswer(choice=outcome.choice, confidence=probabilities[outcome.choice], probabilities=probabilities)
    if isinstance(question, NoulQuestion):
        return NoulAnswer(noul=probabilities["yes"])
    levels = {int(level): share for level, share in probabilities.items()}
    score = sum(level * share for level, share in levels.items())
    return ScoreAnswer(score=score, confidence=probabilities[outcome.choice], probabilities=levels)


def _details(outcome: Weighed) -> dict[str, Any]:
    spoken = {option: {"text": said.text, "source": said.source} for option, said in outcome.spoken.items()}
    return {"probabilities": outcome.probabilities, "without": outcome.without, "spoken": spoken}


def _decided(output: Any, details: Mapping[str, Any], evidence: Sequence[Evidence], cost: Mapping[str, float]) -> Decision[Any]:
    """The decision of a decision model. Of several fields the least sure one gives the confidence, the first the rest."""
    weighed: dict[str, Any] = details.get("weighed") or {
        name: {"probabilities": probabilities} for name, probabilities in (details.get("probabilities") or {}).items()
    }
    if not weighed:
        sure = min((details.get("confidence") or {"": 1.0}).values())
        return Decision(output, confidence=sure, evidence=tuple(item.id for item in evidence), cost=cost)
    options = [
        Option(label if len(weighed) == 1 else f"{name}: {label}", share)
        for name, outcome in weighed.items()
        for label, share in sorted(outcome["probabilities"].items(), key=lambda pair: -pair[1])
    ]
    first = next(iter(weighed.values()))
    without = {chunk: best_of(shares) for chunk, shares in first.get("without", {}).items()}
    return Decision(
        choice=output, options=tuple(options), rationale=_rationale(first, evidence),
        confidence=min(max(outcome["probabilities"].values()) for outcome in weighed.values()),
        evidence=tuple(item.id for item in evidence),
        without={chunk: Option(label, first["without"][chunk][label]) for chunk, label in without.items()}, cost=cost,
    )  # fmt: skip


def _rationale(outcome: Mapping[str, Any], evidence: Sequence[Evidence]) -> str:
    """What spoke for the choice, and for the next best."""
    shares = outcome["probabilities"]
    said = outcome.get("spoken", {})
    places = {item.id: " ".join(filter(None, (item.document, item.section))) for item in evidence}
    parts = []
    for option in sorted(shares, key=lambda option: -shares[option])[:2]:
        if option in said:
            source = places.get(said[option]["source"], "its description")
            parts.append(f"for {option} ({shares[option]:.2f}) speaks {source}: “{said[option]['text']}”")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


def reasoned(answer: Reasoned[Any], evidence: Sequence[Evidence], cost: Mapping[str, float]) -> Decision[Any]:
    """The decision of a language model. Ids that it was not shown are left out; if it names none, it saw them all."""
    shown = {item.id for item in evidence}
    cited = tuple(chunk for chunk in dict.fromkeys(answer.evidence) if chunk in shown)
    considered = tuple(Option(option.name, option.confidence) for option in answer.options)
    return Decision(
        choice=answer.choice, options=considered or (Option(_label(answer.choice), answer.confidence),), rationale=answer.rationale,
        confidence=answer.confidence, evidence=cited or tuple(item.id for item in evidence), cost=cost,
    )  # fmt: skip


def _label(choice: Any) -> str:
    if isinstance(choice, BaseModel):
        return " · ".join(str(value) for value in choice.model_dump(mode="json").values())
    return str(getattr(choice, "value", choice))


def _name(output: Any) -> str:
    return getattr(output, "__name__", str(output))
