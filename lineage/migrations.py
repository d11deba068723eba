"""The lineage database's form, as numbered migrations: each is applied once, in order, and recorded.

Two columns are not called what the rest of the code calls them, for DuckDB reserves the words: `time` is a record's `at`,
`log_offset` an offset.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from typing import NamedTuple

from headwater.lineage.beginnings import STATEMENTS as STRETCHES
from headwater.lineage.over import OVER
from headwater.lineage.sums import STATEMENTS


class Migration(NamedTuple):
    """One step of the database's form. A released one is never changed; a new one is added."""

    number: int
    name: str
    statements: tuple[str, ...]


LEDGER = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER, name VARCHAR, applied TIMESTAMPTZ)"

_TABLES = (
    """CREATE TABLE records (
        seq BIGINT, batch INTEGER, id VARCHAR, kind VARCHAR, flow VARCHAR, step VARCHAR, ref VARCHAR, parents VARCHAR[],
        broker VARCHAR, topic VARCHAR, "partition" INTEGER, "first" BIGINT, "next" BIGINT, "count" BIGINT,
        outcome VARCHAR, "time" TIMESTAMPTZ, logged TIMESTAMPTZ, data JSON, leaf BLOB)""",
    """CREATE TABLE chain (
        batch INTEGER, first_seq BIGINT, next_seq BIGINT, root VARCHAR, previous VARCHAR, head VARCHAR, landed TIMESTAMPTZ)""",
    """CREATE TABLE offsets (broker VARCHAR, "partition" INTEGER, "next" BIGINT, PRIMARY KEY (broker, "partition"))""",
    # What landing cut off. `within` tells a replay (false) from one message that says the same twice (true).
    """CREATE TABLE replays (
        batch INTEGER, kind VARCHAR, flow VARCHAR, broker VARCHAR, topic VARCHAR, "partition" INTEGER,
        "first" BIGINT, "next" BIGINT, positions BIGINT, within BOOLEAN)""",
    # Where each name occurs: `names` in sorted runs, so that its zone maps prune; `names_new` as it comes.
    "CREATE TABLE names (name UBIGINT, seq BIGINT)",
    "CREATE TABLE names_new (name UBIGINT, seq BIGINT)",
)

_MICROSECONDS = "timezone('UTC', make_timestamp((data->>'$.{0}')::BIGINT))"


def _moment(field: str) -> str:
    return _MICROSECONDS.format(field)


_PLACE = """topic || '/' || "partition" || '@' || "first" AS position"""

def _decisions(create: str, which: str = "") -> str:
    """What became of a decision: the outcome of its activation's position, once that is closed."""
    return f"""{create} VIEW decisions AS
    WITH ended AS (
        SELECT ref, arg_max(outcome, (outcome <> 'waiting', seq)) AS outcome FROM records
        WHERE kind = 'outcome' AND ref <> '' AND starts_with(flow, 'decide/'){which} GROUP BY ref)
    SELECT d."time", d.data->>'$.agent' AS agent, d.data->>'$.version' AS version, a.rule, a."key",
        d.data->>'$.summary' AS choice, (d.data->>'$.confidence')::DOUBLE AS confidence, coalesce(ended.outcome, d.outcome) AS outcome,
        ((d.data->>'$.decided')::BIGINT - (d.data->>'$.woken')::BIGINT) / 1000 AS ms, (d.data->>'$.attempts')::INTEGER AS attempts,
        d.ref AS id, d.data->>'$.activation' AS activation, d.data->>'$.error' AS error, d.data->>'$.rationale' AS rationale,
        d.data->'$.cost' AS cost, d.data->>'$.digest' AS digest, {_moment("woken").replace("data", "d.data")} AS woken,
        {_moment("decided").replace("data", "d.data")} AS decided, d.logged
    FROM records d LEFT JOIN ended USING (ref) LEFT JOIN activations a ON a.id = d.data->>'$.activation'
    WHERE d.kind = 'decision' QUALIFY row_number() OVER (PARTITION BY d.ref ORDER BY d.seq) = 1"""


_VIEWS = (
    """CREATE VIEW outcomes AS
        SELECT flow, broker, topic, "partition", "first", "next", "count", outcome, ref, logged FROM records WHERE kind = 'outcome'""",
    """CREATE VIEW consumed AS
        SELECT flow, broker, topic, "partition", "first", "next", "count", logged FROM records WHERE kind = 'consumed'""",
    """CREATE VIEW absent AS
        SELECT flow, broker, topic, "partition", "first", "next", "count", logged FROM records WHERE kind = 'absent'""",
    f"""CREATE VIEW documents AS
        SELECT "time", ref AS document, outcome, data->>'$.type' AS type, (data->>'$.version')::BIGINT AS version,
            data->>'$.event' AS event, {_PLACE}, broker, topic, "partition", "first" AS log_offset,
            json_array_length(data, '$.chunks') AS chunks, {_moment("appended")} AS appended, {_moment("settled")} AS settled, logged
        FROM records WHERE kind = 'document'""",
    f"""CREATE VIEW chunks AS
        SELECT "time", ref AS document, (data->>'$.version')::BIGINT AS version, (chunk->>'$.n')::INTEGER AS n,
            chunk->>'$.section' AS section, chunk->>'$.text' AS text, chunk->>'$.id' AS id,
            chunk->>'$.hash' AS hash, data->>'$.event' AS event, {_PLACE}
        FROM records, unnest((data->'$.chunks')::JSON[]) AS c(chunk) WHERE kind = 'document'""",
    """CREATE VIEW freshness AS
        SELECT document, topic, "partition", log_offset, outcome, appended, settled,
            (epoch_us(settled) - epoch_us(appended)) / 1000 AS ms
        FROM documents WHERE appended IS NOT NULL AND settled IS NOT NULL""",
    """CREATE VIEW activations AS
        SELECT "time", data->>'$.rule' AS rule, data->>'$.key' AS "key", data->>'$.phase' AS phase, (data->>'$.value')::DOUBLE AS value,
            (data->>'$.count')::BIGINT AS matched, (data->>'$.total')::BIGINT AS total, json_array_length(data, '$.events') AS events,
            ref AS id, data->>'$.episode' AS episode, logged AS fired
        FROM records WHERE kind = 'activation'""",
    _decisions("CREATE"),
    """CREATE VIEW options AS
        SELECT ref AS decision, data->>'$.agent' AS agent, o->>'$.name' AS "option", (o->>'$.confidence')::DOUBLE AS confidence, "time"
        FROM records, unnest((data->'$.options')::JSON[]) AS t(o) WHERE kind = 'decision'""",
    """CREATE VIEW retrievals AS
        SELECT "time", split_part(ref, ':', 1) AS decision, data->>'$.query' AS query, json_array_length(data, '$.results') AS results,
            (data->>'$.staleness_ms')::DOUBLE AS staleness_ms, ref AS id, data->'$.as_of' AS as_of, logged
        FROM records WHERE kind = 'retrieval'""",
    # What each decision saw; `used` marks what it named as its evidence, `without_…` what it would have chosen without it.
    """CREATE VIEW evidence AS
        WITH seen AS (
            SELECT split_part(ref, ':', 1) AS decision, e, row_number() OVER (PARTITION BY seq) AS rank
            FROM records, unnest((data->'$.results')::JSON[]) AS t(e) WHERE kind = 'retrieval')
        SELECT seen.decision, rank, (e->>'$.score')::DOUBLE AS score, e->>'$.document' AS document, (e->>'$.version')::BIGINT AS version,
            e->>'$.section' AS section, e->>'$.text' AS text,
            coalesce(list_contains((d.data->'$.evidence')::VARCHAR[], e->>'$.id'), false) AS used,
            json_extract_string(d.data, '$.without."' || (e->>'$.id') || '".name') AS without_choice,
            json_extract_string(d.data, '$.without."' || (e->>'$.id') || '".confidence')::DOUBLE AS without_confidence,
            e->>'$.id' AS chunk, e->>'$.position' AS position
        FROM seen LEFT JOIN records d ON d.kind = 'decision' AND d.ref = seen.decision""",
    f"""CREATE VIEW effects AS
        SELECT ref AS id, parents[1] AS decision, data->>'$.effect' AS effect, coalesce(data->>'$.target', data->>'$.topic') AS target,
            data->>'$.key' AS "key", data->>'$.state' AS state, data->>'$.position' AS position, {_moment("sent")} AS sent
        FROM records WHERE kind = 'effect'""",
    f"""CREATE VIEW dead_letters AS
        SELECT ref AS id, {_PLACE}, data->>'$.cause' AS cause, data->>'$.error' AS error, data->>'$.event' AS event, flow,
            broker, topic, "partition", "first" AS log_offset, logged
        FROM records WHERE kind = 'dead_letter'""",
    """CREATE VIEW reviews AS
        SELECT ref AS id, parents[1] AS decision, data->>'$.agent' AS agent, data->>'$.key' AS "key", data->>'$.reason' AS reason,
            data->>'$.question' AS question, logged
        FROM records WHERE kind = 'review'""",
    """CREATE VIEW rulings AS
        SELECT ref AS decision, data->>'$.principal' AS principal, data->>'$.action' AS action, data->>'$.resource' AS resource,
            (data->>'$.allowed')::BOOLEAN AS allowed, data->>'$.policy' AS policy, logged
        FROM records WHERE kind = 'ruling'""",
    """CREATE VIEW runs AS
        SELECT flow, data->>'$.state' AS state, (data->>'$.pid')::BIGINT AS pid, data->>'$.version' AS version, logged
        FROM records WHERE kind = 'run'""",
    # One row per event and flow: where it lay, how it ended there, and the document it became, if it became one.
    """CREATE VIEW events AS
        WITH ended AS (
            SELECT flow, broker, topic, "partition", unnest(range("first", "next")) AS log_offset, outcome, logged
            FROM records WHERE kind = 'outcome'),
        known AS (
            SELECT flow, broker, topic, "partition", "first" AS log_offset, any_value(data->>'$.event') AS event,
                any_value("time") AS "time", any_value(CASE kind WHEN 'document' THEN ref END) AS document
            FROM records WHERE kind IN ('document', 'dead_letter') GROUP BY ALL)
        SELECT "time", topic || '/' || "partition" || '@' || log_offset AS position, flow, outcome, event, document,
            topic, "partition", log_offset, broker, logged
        FROM ended LEFT JOIN known USING (flow, broker, topic, "partition", log_offset)""",
)

_DEAD = (
    # One row per dead letter and how it ended: a redrive or a drop closes it, the first of them counts.
    f"""CREATE OR REPLACE VIEW dead_letters AS
        WITH closed AS (
            SELECT ref, kind, data, logged FROM records WHERE kind IN ('redrive', 'drop')
            QUALIFY row_number() OVER (PARTITION BY ref ORDER BY seq) = 1)
        SELECT r.ref AS id,
            CASE WHEN r."first" >= 0 THEN r.topic || '/' || r."partition" || '@' || r."first" ELSE r.data->>'$.origin' END AS position,
            r.data->>'$.cause' AS cause, r.data->>'$.error' AS error, r.data->>'$.event' AS event,
            r.flow, r.broker, r.topic, r."partition", r."first" AS log_offset,
            r.logged, CASE closed.kind WHEN 'redrive' THEN 'redriven' WHEN 'drop' THEN 'dropped' ELSE 'waiting' END AS state,
            coalesce((r.data->>'$.attempt')::INTEGER, 1) AS attempt,
            {_moment("first_failure").replace("data", "r.data")} AS first_failure,
            coalesce(r.data->>'$.origin', r.parents[1]) AS origin, r.data->>'$.message' AS message,
            closed.data->>'$.position' AS successor, closed.data->>'$.by' AS closed_by, closed.data->>'$.reason' AS reason,
            closed.logged AS closed
        FROM records r LEFT JOIN closed USING (ref) WHERE r.kind = 'dead_letter'""",
    # Where positions went that were tried again later.
    f"""CREATE VIEW retries AS
        SELECT {_PLACE}, ref AS moved_to, flow, broker, topic, "partition", "first" AS log_offset, logged
        FROM records WHERE kind = 'outcome' AND outcome = 'moved'""",
)

_JUDGED = (
    # One row per review and how it stands: the first verdict that counted ends it.
    f"""CREATE OR REPLACE VIEW reviews AS
        WITH judged AS (
            SELECT ref, data, logged FROM records WHERE kind = 'verdict' AND (data->>'$.accepted')::BOOLEAN
            QUALIFY row_number() OVER (PARTITION BY ref ORDER BY seq) = 1)
        SELECT r.ref AS id, r.parents[1] AS decision, r.data->>'$.agent' AS agent, r.data->>'$.key' AS "key",
            r.data->>'$.reason' AS reason, r.data->>'$.question' AS question, r.logged,
            coalesce(j.data->>'$.verdict', 'waiting') AS state,
            j.data->>'$.by' AS "by", j.data->>'$.reason' AS why, j.logged AS judged,
            {_moment("asked").replace("data", "r.data")} AS asked, {_moment("expires").replace("data", "r.data")} AS expires
        FROM records r LEFT JOIN judged j USING (ref)
        WHERE r.kind = 'review' QUALIFY row_number() OVER (PARTITION BY r.ref ORDER BY r.seq) = 1""",
    # Which version of its rule fired.
    """CREATE OR REPLACE VIEW activations AS
        SELECT "time", data->>'$.rule' AS rule, data->>'$.key' AS "key", data->>'$.phase' AS phase, (data->>'$.value')::DOUBLE AS value,
            (data->>'$.count')::BIGINT AS matched, (data->>'$.total')::BIGINT AS total, json_array_length(data, '$.events') AS events,
            ref AS id, data->>'$.episode' AS episode, logged AS fired, coalesce(data->>'$.version', '1') AS version
        FROM records WHERE kind = 'activation'""",
)

_CONTENTS = (
    "ALTER TABLE records ADD COLUMN held JSON",
    # In the order of n. What was removed has no salt, and words in its place. `name` is the beginning of the hash.
    "CREATE TABLE contents (n BIGINT, name UBIGINT, hash VARCHAR, salt VARCHAR, body VARCHAR)",
    "CREATE TABLE contents_key (key BLOB)",
    # What retention removed leaves its place in the chain; `removal` is the record that tells of it.
    "CREATE TABLE pruned (seq BIGINT, batch INTEGER, leaf BLOB, removal VARCHAR)",
    # Something was removed whose bytes are still in the file.
    "CREATE TABLE unscrubbed (removal VARCHAR)",
    "CREATE MACRO number_of(reference) AS (split_part(reference, ':', 1)::BIGINT)",
    f"""CREATE OR REPLACE VIEW chunks AS
        WITH each AS (
            SELECT "time", ref, data, topic, "partition", "first", unnest((data->'$.chunks')::JSON[]) AS chunk,
                unnest((held->'$.chunks')::VARCHAR[]) AS reference
            FROM records WHERE kind = 'document')
        SELECT "time", ref AS document, (data->>'$.version')::BIGINT AS version, (chunk->>'$.n')::INTEGER AS n,
            chunk->>'$.section' AS section, coalesce(c.body->>'$', chunk->>'$.text') AS text, chunk->>'$.id' AS id,
            coalesce(split_part(reference, ':', 2), chunk->>'$.hash') AS hash, data->>'$.event' AS event, {_PLACE}
        FROM each LEFT JOIN contents c ON c.n = number_of(reference)""",
    f"""CREATE OR REPLACE VIEW decisions AS
        WITH ended AS (
            SELECT ref, arg_max(outcome, (outcome <> 'waiting', seq)) AS outcome FROM records
            WHERE kind = 'outcome' AND ref <> '' AND outcome <> 'passed' AND starts_with(flow, 'decide/') GROUP BY ref)
        SELECT d."time", d.data->>'$.agent' AS agent, d.data->>'$.version' AS version, a.rule, a."key",
            coalesce(s.body->>'$', d.data->>'$.summary') AS choice, (d.data->>'$.confidence')::DOUBLE AS confidence,
            coalesce(ended.outcome, d.outcome) AS outcome,
            ((d.data->>'$.decided')::BIGINT - (d.data->>'$.woken')::BIGINT) / 1000 AS ms, (d.data->>'$.attempts')::INTEGER AS attempts,
            d.ref AS id, d.data->>'$.activation' AS activation, coalesce(e.body->>'$', d.data->>'$.error') AS error,
            coalesce(r.body->>'$', d.data->>'$.rationale') AS rationale,
            d.data->'$.cost' AS cost, d.data->>'$.digest' AS digest, {_moment("woken").replace("data", "d.data")} AS woken,
            {_moment("decided").replace("data", "d.data")} AS decided, d.logged
        FROM records d LEFT JOIN ended USING (ref) LEFT JOIN activations a ON a.id = d.data->>'$.activation'
            LEFT JOIN contents s ON s.n = number_of(d.held->>'$.summary') LEFT JOIN contents e ON e.n = number_of(d.held->>'$.error')
            LEFT JOIN contents r ON r.n = number_of(d.held->>'$.rationale')
        WHERE d.kind = 'decision' QUALIFY row_number() OVER (PARTITION BY d.ref ORDER BY d.seq) = 1""",
    """CREATE OR REPLACE VIEW retrievals AS
        SELECT "time", split_part(ref, ':', 1) AS decision, coalesce(c.body->>'$', data->>'$.query') AS query,
            json_array_length(data, '$.results') AS results, (data->>'$.staleness_ms')::DOUBLE AS staleness_ms, ref AS id,
            data->'$.as_of' AS as_of, logged
        FROM records LEFT JOIN contents c ON c.n = number_of(held->>'$.query') WHERE kind = 'retrieval'""",
    """CREATE OR REPLACE VIEW evidence AS
        WITH each AS (
            SELECT seq, ref, unnest((data->'$.results')::JSON[]) AS e, unnest((held->'$.results')::VARCHAR[]) AS reference
            FROM records WHERE kind = 'retrieval'),
        seen AS (SELECT split_part(ref, ':', 1) AS decision, e, reference, row_number() OVER (PARTITION BY seq) AS rank FROM each)
        SELECT seen.decision, rank, (e->>'$.score')::DOUBLE AS score, e->>'$.document' AS document, (e->>'$.version')::BIGINT AS version,
            e->>'$.section' AS section, coalesce(c.body->>'$', e->>'$.text') AS text,
            coalesce(list_contains((d.data->'$.evidence')::VARCHAR[], e->>'$.id'), false) AS used,
            json_extract_string(d.data, '$.without."' || (e->>'$.id') || '".name') AS without_choice,
            json_extract_string(d.data, '$.without."' || (e->>'$.id') || '".confidence')::DOUBLE AS without_confidence,
            e->>'$.id' AS chunk, e->>'$.position' AS position
        FROM seen LEFT JOIN records d ON d.kind = 'decision' AND d.ref = seen.decision
            LEFT JOIN contents c ON c.n = number_of(reference)""",
    f"""CREATE OR REPLACE VIEW dead_letters AS
        WITH closed AS (
            SELECT ref, kind, data, held, logged FROM records WHERE kind IN ('redrive', 'drop')
            QUALIFY row_number() OVER (PARTITION BY ref ORDER BY seq) = 1)
        SELECT r.ref AS id,
            CASE WHEN r."first" >= 0 THEN r.topic || '/' || r."partition" || '@' || r."first" ELSE r.data->>'$.origin' END AS position,
            r.data->>'$.cause' AS cause, coalesce(e.body->>'$', r.data->>'$.error') AS error, r.data->>'$.event' AS event,
            r.flow, r.broker, r.topic, r."partition", r."first" AS log_offset,
            r.logged, CASE closed.kind WHEN 'redrive' THEN 'redriven' WHEN 'drop' THEN 'dropped' ELSE 'waiting' END AS state,
            coalesce((r.data->>'$.attempt')::INTEGER, 1) AS attempt,
            {_moment("first_failure").replace("data", "r.data")} AS first_failure,
            coalesce(r.data->>'$.origin', r.parents[1]) AS origin, r.data->>'$.message' AS message,
            closed.data->>'$.position' AS successor, closed.data->>'$.by' AS closed_by,
            coalesce(w.body->>'$', closed.data->>'$.reason') AS reason, closed.logged AS closed
        FROM records r LEFT JOIN closed USING (ref) LEFT JOIN contents e ON e.n = number_of(r.held->>'$.error')
            LEFT JOIN contents w ON w.n = number_of(closed.held->>'$.reason')
        WHERE r.kind = 'dead_letter'""",
    f"""CREATE OR REPLACE VIEW reviews AS
        WITH judged AS (
            SELECT ref, data, held, logged FROM records WHERE kind = 'verdict' AND (data->>'$.accepted')::BOOLEAN
            QUALIFY row_number() OVER (PARTITION BY ref ORDER BY seq) = 1)
        SELECT r.ref AS id, r.parents[1] AS decision, r.data->>'$.agent' AS agent, r.data->>'$.key' AS "key",
            r.data->>'$.reason' AS reason, coalesce(q.body->>'$', r.data->>'$.question') AS question, r.logged,
            coalesce(j.data->>'$.verdict', 'waiting') AS state,
            j.data->>'$.by' AS "by", coalesce(w.body->>'$', j.data->>'$.reason') AS why, j.logged AS judged,
            {_moment("asked").replace("data", "r.data")} AS asked, {_moment("expires").replace("data", "r.data")} AS expires
        FROM records r LEFT JOIN judged j USING (ref) LEFT JOIN contents q ON q.n = number_of(r.held->>'$.question')
            LEFT JOIN contents w ON w.n = number_of(j.held->>'$.reason')
        WHERE r.kind = 'review' QUALIFY row_number() OVER (PARTITION BY r.ref ORDER BY r.seq) = 1""",
    """CREATE VIEW notes AS
        SELECT split_part(ref, ':', 1) AS decision, flow, coalesce(c.body->>'$', data->>'$.text') AS text, data, logged
        FROM records LEFT JOIN contents c ON c.n = number_of(held->>'$.text') WHERE kind = 'note'""",
    # What was removed, by whom and why: on request (an erasure) or by age (retention).
    """CREATE VIEW removals AS
        SELECT logged AS removed, kind, ref AS subject, data->>'$.by' AS "by", data->>'$.why' AS why,
            (data->>'$.texts')::BIGINT AS texts, (data->>'$.records')::BIGINT AS records, id
        FROM records WHERE kind IN ('erasure', 'retention')""",
)

_PAGED = (
    # Names in sorted runs, a page of them a row, see `name_pages`. Packing them was tried: it took ten times as long and spared nothing.
    """CREATE TABLE name_pages (
        level UTINYINT, low UINTEGER, high UINTEGER, base BIGINT, body BLOB USING COMPRESSION uncompressed)""",
    "INSERT INTO names_new SELECT name, seq FROM names ORDER BY rowid",
    "DROP TABLE names",
)

_FRESHNESS = (
    # Each document's data is read once; without `unnest` DuckDB puts the reading into every place that asks for what was read.
    """CREATE OR REPLACE VIEW freshness AS
        SELECT document, topic, "partition", log_offset, outcome, timezone('UTC', make_timestamp(told[1]::BIGINT)) AS appended,
            timezone('UTC', make_timestamp(told[2]::BIGINT)) AS settled, (told[2]::BIGINT - told[1]::BIGINT) / 1000 AS ms
        FROM (
            SELECT ref AS document, topic, "partition", "first" AS log_offset, outcome,
                unnest([data->>['$.appended', '$.settled']]) AS told
            FROM records WHERE kind = 'document')
        WHERE told[1] IS NOT NULL AND told[2] IS NOT NULL""",
)

# Who decided: the agent or its fallback, the model that it asked last, and the person who judged its review.
_WHO = f"""CREATE OR REPLACE VIEW decisions AS
    WITH ended AS (
        SELECT ref, arg_max(outcome, (outcome <> 'waiting', seq)) AS outcome FROM records
        WHERE kind = 'outcome' AND ref <> '' AND outcome <> 'passed' AND starts_with(flow, 'decide/') GROUP BY ref),
    asked AS (
        SELECT split_part(ref, ':', 1) AS ref, data->>'$.by' AS asker, arg_max(data->>'$.model', seq) AS model
        FROM records WHERE kind = 'model' GROUP BY ALL),
    judged AS (
        SELECT data->>'$.decision' AS ref, arg_max(data->>'$.by', seq) AS person
        FROM records WHERE kind = 'verdict' AND (data->>'$.accepted')::BOOLEAN GROUP BY ALL)
    SELECT d."time", d.data->>'$.agent' AS agent, d.data->>'$.version' AS version, a.rule, a."key",
        coalesce(s.body->>'$', d.data->>'$.summary') AS choice, (d.data->>'$.confidence')::DOUBLE AS confidence,
        coalesce(ended.outcome, d.outcome) AS outcome,
        ((d.data->>'$.decided')::BIGINT - (d.data->>'$.woken')::BIGINT) / 1000 AS ms, (d.data->>'$.attempts')::INTEGER AS attempts,
        d.ref AS id, d.data->>'$.activation' AS activation, coalesce(e.body->>'$', d.data->>'$.error') AS error,
        coalesce(r.body->>'$', d.data->>'$.rationale') AS rationale,
        d.data->'$.cost' AS cost, d.data->>'$.digest' AS digest, {_moment("woken").replace("data", "d.data")} AS woken,
        {_moment("decided").replace("data", "d.data")} AS decided, d.logged,
        coalesce(nullif(d.data->>'$.by', ''), d.data->>'$.agent') AS "by", asked.model, nullif(judged.person, '') AS judged_by
    FROM records d LEFT JOIN ended USING (ref) LEFT JOIN activations a ON a.id = d.data->>'$.activation'
        LEFT JOIN contents s ON s.n = number_of(d.held->>'$.summary') LEFT JOIN contents e ON e.n = number_of(d.held->>'$.error')
        LEFT JOIN contents r ON r.n = number_of(d.held->>'$.rationale')
        LEFT JOIN judged ON judged.ref = d.ref
        LEFT JOIN asked ON asked.ref = d.ref
            AND (asked.asker IS NULL OR asked.asker = coalesce(nullif(d.data->>'$.by', ''), d.data->>'$.agent'))
    WHERE d.kind = 'decision' QUALIFY row_number() OVER (PARTITION BY d.ref ORDER BY d.seq, asked.asker NULLS LAST) = 1"""

# A question that was asked in a broker's life that is over waits for nobody any more.
_LOST = (
    _WHO.replace(
        "coalesce(ended.outcome, d.outcome) AS outcome",
        "CASE WHEN coalesce(ended.outcome, d.outcome) = 'waiting' AND split_part(d.data->>'$.position', '/', 1) IN "
        f"{OVER} THEN 'lost_with_broker' ELSE coalesce(ended.outcome, d.outcome) END AS outcome",
    ),
    next(view for view in _CONTENTS if "VIEW reviews" in view).replace(
        "coalesce(j.data->>'$.verdict', 'waiting') AS state",
        "coalesce(j.data->>'$.verdict', CASE WHEN split_part(r.data->>'$.position', '/', 1) IN "
        f"{OVER} THEN 'lost_with_broker' ELSE 'waiting' END) AS state",
    ),
)

# `by` is a word of SQL, refused without quotes.
_PLAIN = (
    _LOST[0].replace('AS "by"', "AS decided_by"),
    _LOST[1].replace('AS "by"', "AS judged_by"),
    next(view for view in _CONTENTS if "VIEW removals" in view)
    .replace("CREATE VIEW", "CREATE OR REPLACE VIEW").replace('AS "by"', "AS removed_by"),
)  # fmt: skip

MIGRATIONS = (
    Migration(1, "records, their chain, and the views over them", _TABLES + _VIEWS),
    Migration(2, "dead letters with how they ended, and what was tried again", _DEAD),
    # The position of an activation that came a second time is passed by; that says nothing of the decision.
    Migration(3, "decisions are not told by activations that came twice", (_decisions("CREATE OR REPLACE", " AND outcome <> 'passed'"),)),
    Migration(4, "reviews with their state, activations with the version of their rule", _JUDGED),
    Migration(5, "texts apart from the records that tell of them", _CONTENTS),
    Migration(6, "names in pages, of which a look-up reads a few", _PAGED),
    Migration(7, "freshness that reads each document once", _FRESHNESS),
    Migration(8, "what names begin with that are no hex digits", ("CREATE TABLE IF NOT EXISTS beginnings (text VARCHAR, seq BIGINT)",)),
    Migration(9, "sums of what events and decisions add", STATEMENTS),
    Migration(10, "decisions with who decided", (_WHO,)),
    Migration(11, "what names begin with, by stretches of records", STRETCHES),
    Migration(12, "what waited when its broker's life ended", _LOST),
    Migration(13, "columns whose names are no words of SQL", _PLAIN),
    # References say it, and salt and body do. The sums, which counted its bytes, are counted anew.
    Migration(14, "no hash beside a text", ("ALTER TABLE contents DROP COLUMN IF EXISTS hash", "DELETE FROM sums")),
)
