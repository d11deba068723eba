"""dead: which dead letters there are, chosen by filters, newest first."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args

import msgspec

from headwater.lineage.errors import Misused, NotFound, causes
from headwater.lineage.event import Position
from headwater.lineage.verify import Source

State = Literal["waiting", "redriven", "dropped"]
SHORTEST = 6


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Filters; what is None does not filter. `ids` may be unique beginnings, `since` is wall clock in µs since 1970."""

    ids: tuple[str, ...] = ()
    cause: str | None = None
    topic: str | None = None
    flow: str | None = None
    state: str | None = None
    event: str | None = None
    since: int | None = None

    @property
    def anything(self) -> bool:
        """Whether nothing is filtered at all but the state."""
        return not self.ids and all(each is None for each in (self.cause, self.topic, self.flow, self.event, self.since))


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter.

    position  the token of the life that ended with it; empty: it never lay on a topic, its origin says where a gateway found it
    origin    the token of the event's first life
    message   the token of its message on headwater.dead, if it is told;  state  waiting, redriven or dropped
    successor the token of the next life, if it was redriven;  closed_by, reason, closed  who closed it, why, when
    Times are wall clock, µs since 1970.
    """

    id: str
    position: str
    short: str
    cause: str
    error: str
    event: str | None
    flow: str
    topic: str
    attempt: int
    state: State
    origin: str
    first_failure: int | None
    logged: int
    message: str | None = None
    successor: str | None = None
    closed_by: str | None = None
    reason: str | None = None
    closed: int | None = None


def letters(source: Source, which: Which, *, limit: int = 50, before: str | None = None) -> tuple[list[Letter], str | None]:
    """The newest letters, and the cursor for `before` that gives those after them, if there are more.

    Raises NotFound, Misused for ids that name none or several, and for a state or a cursor that is none.
    """
    if which.state is not None and which.state not in get_args(State):
        raise Misused(f"state {which.state!r} is none of {', '.join(get_args(State))}")
    if which.cause is not None and which.cause not in (known := causes()):
        near = get_close_matches(which.cause, known, 1)
        hint = f"did you mean {near[0]}?" if near else "headwater dead list shows which there are"
        raise Misused(f"cause {which.cause!r} is none that dead letters have; {hint}")
    with source.cursor() as cursor:
        ids = [_whole(cursor, id) for id in which.ids]
        at, last = _parsed(before)
        query = _SELECT + (" AND list_contains($ids, id)" if ids else "") + " ORDER BY logged DESC, id DESC LIMIT $limit"
        given: dict[str, Any] = {
            "cause": which.cause, "topic": which.topic, "flow": which.flow, "state": which.state, "event": which.event,
            "since": which.since, "at": at, "last": last, "limit": limit + 1,
        }  # fmt: skip
        rows = cursor.execute(query, {**given, "ids": ids} if ids else given).fetchall()
    found = [Letter(**dict(zip(Letter.__struct_fields__, row, strict=True))) for row in rows]
    if len(found) <= limit:
        return found, None
    end = found[limit - 1]
    return found[:limit], f"{end.logged},{end.id}"


def letter(source: Source, id: str) -> Letter:
    """The dead letter of an id or its unique beginning. Raises NotFound, Misused."""
    return letters(source, Which(ids=(id,)), limit=1)[0][0]


def place_of(letter: Letter) -> Position:
    """Where the life lay that ended with this letter."""
    return Position.parse(letter.position)


def _whole(cursor: Any, id: str) -> str:
    text = id.strip().lower()
    found = [row[0] for row in cursor.execute("SELECT DISTINCT id FROM dead_letters WHERE starts_with(id, ?) LIMIT 11", [text]).fetchall()]
    if len(found) == 1 and (len(text) >= SHORTEST or found[0] == text):
        return str(found[0])
    if not found or len(text) < SHORTEST:
        raise NotFound(f"no dead letter has the id {id!r} (give at least {SHORTEST} characters); see: headwater dead list")
    raise Misused(f"{len(found)} dead letters have an id beginning with {id!r}; give more characters", candidates=found)


def _parsed(before: str | None) -> tuple[int | None, str | None]:
    if before is None:
        return None, None
    at, _, last = before.partition(",")
    if not at.isdigit() or not last or len(at) > 18:
        raise Misused(f"cursor {before!r} is none that a list gave")
    return int(at), last


_LIFE = """CASE WHEN log_offset >= 0 THEN broker || '/' || topic || '/' || "partition" || '/' || log_offset ELSE '' END"""

_COLUMNS: Sequence[str] = (
    "id", _LIFE, "position", "cause", "error", "event", "flow", "topic",
    "attempt", "state", "origin", "epoch_us(first_failure)", "epoch_us(logged)", "message", "successor", "closed_by", "reason",
    "epoch_us(closed)",
)  # fmt: skip

_SELECT = (
    f"SELECT {', '.join(_COLUMNS)} FROM dead_letters WHERE ($cause IS NULL OR cause = $cause) AND ($topic IS NULL OR topic = $topic) "  # noqa: S608
    "AND ($flow IS NULL OR flow = $flow) AND ($state IS NULL OR state = $state) AND ($event IS NULL OR event = $event) "
    "AND ($since IS NULL OR epoch_us(logged) >= $since) AND ($at IS NULL OR (epoch_us(logged), id) < ($at, $last))"
)
