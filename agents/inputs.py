"""What went into a decision: by name, as one hash, and where two of them differ first."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.trail import content_hash
from headwater.lineage.record import Record

SEEN = ("retrieval", "tool", "model")
_OF_A_CHUNK = ("id", "document", "version", "n", "text")


class Step(msgspec.Struct, frozen=True):
    """One thing an agent did while deciding: `kind` is retrieval, tool or model, `data` its record's."""

    kind: str
    data: dict[str, Any]


def attempts(records: Sequence[Record], made: int) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """What was done in the attempt that answered, or failed last; and what in those before it. `made`: how many there were in all."""
    each: list[list[Step]] = [[]]
    for record in records:
        if record.kind in SEEN:
            each[-1].append(Step(record.kind, record.data))
        elif record.kind == "note" and str(record.data.get("text", "")).startswith(f"attempt {len(each)} failed: "):
            each.append([])
    if 1 < len(each) == made + 1:
        each.pop()  # nothing came after the last failure
    return tuple(each[-1]), tuple(step for earlier in each[:-1] for step in earlier)


def in_order_of(then: Sequence[Step], now: Sequence[Step]) -> tuple[Step, ...]:
    """The same steps in the order of then, if they are the same: which of two that were under way together ends first is chance.

    Where their order meant something to a model, its question differs, which is a step too.
    """
    told = [_told(step) for step in then]
    if Counter(told) != Counter(map(_told, now)):
        return tuple(now)
    left = {text: [step for step in reversed(now) if _told(step) == text] for text in set(told)}
    return tuple(left[text].pop() for text in told)


def _told(step: Step) -> str:
    return content_hash({step.kind: _went_in(step)})


def inputs(
    activation: Activation, steps: Sequence[Step], recalled: Mapping[str, Any], resumed: Activation | None = None
) -> dict[str, Any]:
    """All that went into a decision, by name, in the order it went in; no wall clock among it. `resumed`: over what it had suspended."""
    counts: dict[str, int] = {}
    told: dict[str, Any] = {"activation": msgspec.to_builtins(activation)}
    told["activation"]["correlation"] = activation.correlationid
    if resumed is not None:
        told["resumes"] = resumed.id
    if recalled:
        told["recalled"] = dict(recalled)
    for step in steps:
        counts[step.kind] = counts.get(step.kind, 0) + 1
        told[f"{step.kind} {counts[step.kind]}"] = _went_in(step)
    return told


def _went_in(step: Step) -> dict[str, Any]:
    data = step.data
    match step.kind:
        case "retrieval":
            found = [{name: result.get(name) for name in _OF_A_CHUNK} for result in data.get("results") or ()]
            return {"query": data.get("query"), "limit": data.get("limit"), "where": data.get("where"), "results": found}
        case "tool":
            return {name: data.get(name) for name in ("tool", "arguments", "answer", "error") if name in data}
    return {name: data[name] for name in ("model", "prompt", "parameters") if name in data}


def context_hash(told: Mapping[str, Any]) -> str:
    """16 hex digits over inputs."""
    return content_hash({"inputs": list(told.items())})


def first_difference(then: Any, now: Any, path: str = "") -> str:
    """The first field in which two inputs differ, such as `retrieval 1.results[2].text`; empty if they are the same."""
    return next(_differences(_plain(then), _plain(now), path), "")


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))


def _differences(then: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*then, *now]):
            inner = f"{path}.{name}" if path else str(name)
            if name in then and name in now:
                yield from _differences(then[name], now[name], inner)
            else:
                yield inner
    elif isinstance(then, list) and isinstance(now, list):
        for n, (one, other) in enumerate(zip(then, now, strict=False)):
            yield from _differences(one, other, f"{path}[{n}]")
        if len(then) != len(now):
            yield f"{path}[{min(len(then), len(now))}]"
    elif type(then) is not type(now) or then != now:
        yield path
