"""What a step raises is told to whoever runs the flow before the engine hears of it.

The engine ends the other workers of a flow by a hook that a process has once: of several flows in one process only the last to start
has it. In any other a worker that fails leaves the rest waiting for it for ever, and the error is told to nobody.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar, cast

from bytewax.dataflow import Dataflow, Operator

Failed = Callable[[BaseException], None]
T = TypeVar("T")

_LOGIC = ("on_batch", "on_notify", "on_eof", "notify_at", "snapshot", "write_batch")


def guarded(flow: Dataflow, failed: Failed) -> Dataflow:
    """The same flow, which calls `failed` with what any of its steps or sinks raises; sources are told of it by themselves."""
    return replace(flow, substeps=[_step(step, failed) for step in flow.substeps], _scope=cast(Any, None))


def _step(step: Operator, failed: Failed) -> Operator:
    given: Any = step
    changed: dict[str, Any] = {}
    if not step.substeps:  # the engine's own operators: all others are made of them
        match type(step).__name__:
            case "flat_map_batch":
                changed["mapper"] = _told(_whole(given.mapper), failed)
            case "stateful_batch":
                changed["builder"] = _building(given.builder, failed)
            case "output":
                build = "build_part" if hasattr(given.sink, "build_part") else "build"
                setattr(given.sink, build, _building(getattr(given.sink, build), failed))
    return replace(step, substeps=[_step(each, failed) for each in step.substeps], **changed)


def _whole(mapper: Callable[[list[Any]], Iterable[Any]]) -> Callable[[list[Any]], list[Any]]:
    """A mapper that is done when it returns: the engine's own ones give generators."""
    return lambda values: [*mapper(values)]


def _building(build: Callable[..., Any], failed: Failed) -> Callable[..., Any]:
    """A builder whose parts tell what they raise."""

    def built(*args: Any) -> Any:
        part = build(*args)
        for name in _LOGIC:
            method = getattr(part, name, None)
            if method is not None:
                setattr(part, name, _told(method, failed))
        return part

    return _told(built, failed)


def _told(call: Callable[..., T], failed: Failed) -> Callable[..., T]:
    def telling(*args: Any) -> T:
        try:
            return call(*args)
        except BaseException as error:
            failed(error)
            raise

    return telling
