"""reviews: which questions to people there are, chosen by filters, newest first, and how each ended."""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from typing import Any, Literal, get_args

import msgspec

from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.over import OVER
from headwater.lineage.verify import Source

State = Literal["waiting", "approved", "declined", "expired", "lost_with_broker"]
SHORTEST = 6


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a person.

    reason     unsure, failed, forbidden, unknown (what became of a call), and others
    position   the token of the activation's position
    choice     JSON value; effects  what is held back: each an event to publish or a tool to call
    state      waiting, its verdict, or lost_with_broker: it was asked in a broker's life that is over, and nothing of it is done
    by, why, judged  who said so, why, and when
    Times are wall clock, µs since 1970.
    """

    id: str
    state: State
    agent: str
    key: str
    reason: str
    question: str
    summary: str
    decision: str
    activation: str
    position: str
    choice: Any
    effects: list[dict[str, Any]]
    asked: int
    expires: int | None
    by: str | None = None
    why: str | None = None
    judged: int | None = None


def reviews(
    source: Source, *, id: str | None = None, agent: str | None = None, key: str | None = None, reason: str | None = None,
    state: str | None = None, limit: int = 50, before: str | None = None,
) -> tuple[list[Review], str | None]:  # fmt: skip
    """The newest reviews, and the cursor for `before` that gives those after them, if there are more. What is None does not filter.

    Raises Misused for a state or a cursor that is none.
    """
    if state is not None and state not in get_args(State):
        raise Misused(f"state {state!r} is none of {', '.join(get_args(State))}")
    at, last = _parsed(before)
    given: dict[str, Any] = {
        "id": id, "agent": agent, "key": key, "reason": reason, "state": state, "at": at, "last": last, "limit": limit + 1,
    }  # fmt: skip
    with source.cursor() as cursor:
        rows = cursor.execute(_SELECT, given).fetchall()
    found = [_review(row) for row in rows]
    if len(found) <= limit:
        return found, None
    end = found[limit - 1]
    return found[:limit], f"{end.asked},{end.id}"


def review(source: Source, id: str) -> Review:
    """The review of an id or its unique beginning. Raises NotFound, Misused."""
    text = id.strip().lower()
    found, _ = reviews(source, id=text, limit=10) if len(text) >= SHORTEST else ([], None)
    if not found:
        raise NotFound(f"no review has the id {id!r} (give at least {SHORTEST} characters); see: headwater reviews list")
    if len(found) > 1:
        raise Misused(f"several reviews have an id beginning with {id!r}; give more characters")
    return found[0]


def refused_since(source: Source, id: str, at: int) -> bool:
    """Whether a verdict on this review was refused at `at` (wall clock, µs since 1970) or later."""
    with source.cursor() as cursor:
        rows = cursor.execute(_REFUSED, [id, at]).fetchall()
    return bool(rows)


def _review(row: tuple[Any, ...]) -> Review:
    told = dict(zip(Review.__struct_fields__, row, strict=True))
    return Review(**{**told, "choice": _read(told["choice"]), "effects": _read(told["effects"]) or []})


def _read(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _parsed(before: str | None) -> tuple[int | None, str | None]:
    if before is None:
        return None, None
    at, _, last = before.partition(",")
    if not at.isdigit() or not last or len(at) > 18:
        raise Misused(f"cursor {before!r} is none that a list gave")
    return int(at), last


_SELECT = f"""
    WITH over AS {OVER},
    asked AS (
        SELECT ref, data, held, epoch_us(logged) AS logged FROM records WHERE kind = 'review' AND ($id IS NULL OR starts_with(ref, $id))
        QUALIFY row_number() OVER (PARTITION BY ref ORDER BY seq) = 1),
    judged AS (
        SELECT ref, data, held, epoch_us(logged) AS logged FROM records WHERE kind = 'verdict' AND (data->>'$.accepted')::BOOLEAN
        QUALIFY row_number() OVER (PARTITION BY ref ORDER BY seq) = 1),
    found AS (
        SELECT a.ref AS id, coalesce(j.data->>'$.verdict',
                CASE WHEN split_part(a.data->>'$.position', '/', 1) IN (FROM over) THEN 'lost_with_broker' ELSE 'waiting' END) AS state,
            a.data->>'$.agent' AS agent, a.data->>'$.key' AS "key",
            a.data->>'$.reason' AS reason, coalesce(q.body->>'$', a.data->>'$.question') AS question,
            coalesce(s.body->>'$', a.data->>'$.summary', '') AS summary,
            a.data->>'$.decision' AS decision, coalesce(a.data->>'$.activation', '') AS activation,
            coalesce(a.data->>'$.position', '') AS position,
            coalesce(c.body::JSON, a.data->'$.choice') AS choice, coalesce(e.body::JSON, a.data->'$.effects') AS effects,
            coalesce((a.data->>'$.asked')::BIGINT, a.logged) AS asked, (a.data->>'$.expires')::BIGINT AS expires,
            j.data->>'$.by' AS "by", coalesce(w.body->>'$', j.data->>'$.reason') AS why, j.logged AS judged
        FROM asked a LEFT JOIN judged j USING (ref)
            LEFT JOIN contents q ON q.n = number_of(a.held->>'$.question') LEFT JOIN contents s ON s.n = number_of(a.held->>'$.summary')
            LEFT JOIN contents c ON c.n = number_of(a.held->>'$.choice') LEFT JOIN contents e ON e.n = number_of(a.held->>'$.effects')
            LEFT JOIN contents w ON w.n = number_of(j.held->>'$.reason'))
    SELECT * FROM found
    WHERE ($agent IS NULL OR agent = $agent) AND ($key IS NULL OR "key" = $key) AND ($reason IS NULL OR reason = $reason)
        AND ($state IS NULL OR state = $state) AND ($at IS NULL OR (asked, id) < ($at, $last))
    ORDER BY asked DESC, id DESC LIMIT $limit"""

_REFUSED = """
    SELECT 1 FROM records WHERE kind = 'verdict' AND ref = ? AND NOT (data->>'$.accepted')::BOOLEAN AND epoch_us(logged) >= ? LIMIT 1"""
