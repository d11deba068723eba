"""The application of the effects-once tests: agents that act outside in every way there is, ask people, remember, spend, and wait.

Whatever chooses takes a random mark into its choice, so that deciding twice would show. Where the service is, under which name this run
is counted there, and which version the agents are of, stand in the environment: ACTING_SERVICE (a port), ACTING_RUN, ACTING_VERSION.
"""

import asyncio
import json
import os
import uuid
from typing import Any, Literal

import polars as pl
from crash.effect_points import inside, pass_by
from pydantic import BaseModel

from headwater import Activation, App, Context, Decision, Publish, Threshold, Topic, agent
from headwater.agents.budget import Budget
from headwater.agents.tool import Call, tool

VERSION = os.environ.get("ACTING_VERSION", "1")
DECISIONS_A_DAY = 3


class Reading(BaseModel):
    who: str
    level: float


class Deed(BaseModel):
    text: str


readings = Topic("readings", Reading, key="who", partitions=2)
calms = Topic("calms", Reading, key="who")
charges = Topic("charges", Reading, key="who")
deeds = Topic("deeds", Deed)
risen = Threshold("risen", of=readings, value=pl.col("level"), per="who", opens_at=2, closes_at=1, update_step=0.5)
settled = Threshold("settled", of=calms, value=pl.col("level"), per="who", opens_at=2, closes_at=1)
charged = Threshold("charged", of=charges, value=pl.col("level"), per="who", opens_at=2, closes_at=1)


class Answer:
    """As much of an HTTP client's response as errors carry."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class Failed(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = Answer(status)


async def ask(method: str, kind: str, effect: str, *, marked: bool = True) -> tuple[int, Any]:
    """One request on a connection of its own, with the points that it passes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["ACTING_SERVICE"]))
    try:
        if marked:
            pass_by(f"{kind}: connected")
        writer.write(f"{method} /{os.environ['ACTING_RUN']}/{kind}/{effect} HTTP/1.1\r\nhost: service\r\n\r\n".encode())
        await writer.drain()
        if marked:
            pass_by(f"{kind}: sent")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.read()
        if marked:
            pass_by(f"{kind}: made")
        return int(head.split(" ", 2)[1]), json.loads(body)
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the service hung up") from None
    finally:
        writer.close()


async def post(kind: str, effect: str) -> dict[str, Any]:
    status, body = await ask("POST", kind, effect)
    if status != 200:
        raise Failed(status)
    return dict(body)


async def happened(effect: str) -> dict[str, Any] | None:
    """Whether a reconcilable effect took place."""
    pass_by("reconcile: asking")
    status, body = await ask("GET", "reconcilable", effect, marked=False)
    pass_by("reconcile: told")
    return dict(body) if status == 200 else None


@tool(kind="idempotent")
async def book(text: str, effect: str) -> dict[str, Any]:
    """The service honours the effect id."""
    return await post("idempotent", effect)


@tool(kind="reconcilable", reconcile=happened, lease="1s", timeout="600ms")
async def order(text: str, effect: str) -> dict[str, Any]:
    """The service can be asked."""
    with inside(effect):
        return await post("reconcilable", effect)


@tool(kind="plain")
async def ring(text: str, effect: str) -> dict[str, Any]:
    """The service does it each time; it is told the id only to count by."""
    return await post("plain", effect)


Choice = Literal["do it"]


async def chosen(activation: Activation, context: Context) -> str:
    answer = await context.choose(Choice, evidence=[])  # type: ignore[arg-type]
    return f"{answer.choice} {activation.rule} {activation.phase} {activation.value:g} {uuid.uuid4().hex}"


@agent(
    wakes_on=[risen], publishes=[deeds], tools=[book, order, ring], phases=("opened", "updated", "closed"), version=VERSION,
    timeout="60s",
)  # fmt: skip
async def doer(activation: Activation, context: Context) -> Decision[str]:
    """Acts in all ways, one after the other, and keeps what it saw in this episode."""
    seen = [*context.recall("seen", []), activation.value]
    context.remember("seen", seen)
    text = await chosen(activation, context)
    return Decision(text, rationale=f"after {seen}").with_effects(
        Publish(deeds, Deed(text=f"before {text}")),
        Call(book, {"text": text}),
        Call(order, {"text": text}),
        Publish(deeds, Deed(text=f"between {text}")),
        Publish(deeds, Deed(text=f"and {text}")),
        Call(ring, {"text": text}),
        Publish(deeds, Deed(text=f"after {text}")),
    )


@agent(wakes_on=[risen], publishes=[deeds], tools=[book], act_above=0.9, phases=("opened",), version=VERSION, timeout="60s")
async def asker(activation: Activation, context: Context) -> Decision[Deed]:
    """Is never sure."""
    deed = Deed(text=await chosen(activation, context))
    return Decision(deed, confidence=0.5).with_effects(Publish(deeds, deed), Call(book, {"text": deed.text}))


@agent(wakes_on=[risen], awaits=[settled], publishes=[deeds], tools=[book], phases=("opened",), version=VERSION, timeout="60s")
async def waiter(activation: Activation, context: Context) -> Decision[Any]:
    """Suspends, and goes on with what it remembers once things are settled."""
    if context.resumes is None:
        context.remember("began", activation.id)
        return context.suspend(settled)
    assert context.recall("began") == context.resumes.id
    text = await chosen(activation, context)
    context.forget("began")
    return Decision(text).with_effects(Publish(deeds, Deed(text=text)), Call(book, {"text": text}))


@agent(
    wakes_on=[charged], publishes=[deeds], phases=("opened", "closed"), budget=Budget(cost=DECISIONS_A_DAY), version=VERSION,
    timeout="60s",
)  # fmt: skip
async def spender(activation: Activation, context: Context) -> Decision[str]:
    """Costs 1 each time."""
    text = await chosen(activation, context)
    return Decision(text, cost={"cost": 1.0}).with_effects(Publish(deeds, Deed(text=text)))


app = App("acting", triggers=[risen, settled, charged], agents=[doer, asker, waiter, spender], activations=1)
