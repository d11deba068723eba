import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Audit of one decision")


@app.cell
def _():
    import marimo as mo
    import polars as pl
    from drawing import BLUE, GREEN, RED, lineage_of_the_demo, ranges, table

    return BLUE, GREEN, RED, lineage_of_the_demo, mo, pl, ranges, table


@app.cell
def _(mo):
    mo.md("""
    # Audit of one decision

    An auditor's questions about one thing that a program decided: what woke it, what did it see, what else could it have done, was it allowed to,
    what happened then, and can anybody have changed these records since? The decision is the surest one that was
    not certain from the start, in a replayed blizzard, 8 February 2013 in New York.
    Everything is read from one DuckDB file; nothing else is needed, neither the program nor its model.
    """)
    return


@app.cell
def _(lineage_of_the_demo):
    lineage = lineage_of_the_demo()
    decisions = lineage.sql("select * from decisions where confidence < 1 order by outcome = 'acted' desc, confidence desc, id")
    one = decisions["id"][0]
    why = lineage.why(one).decisions[0]
    return lineage, one, why


@app.cell
def _(mo, why):
    mo.md(f"""
    ## The decision

    **{why.agent}**, version {why.version}, chose **{why.summary}** for **{why.activation.key}** with confidence {why.confidence:.2f}, and it ended as *{why.outcome}*.
    Its id is `{why.id}`.

    Its own words: {why.rationale or "none; it is a model that only weighs options"}
    """)
    return


@app.cell
def _(BLUE, GREEN, ranges, why):
    options = [(each.name, each.confidence, GREEN if each.name == why.summary else BLUE) for each in sorted(why.options, key=lambda each: -each.confidence)]
    weighed = ranges(options, "What it weighed: each option with its probability; the one it chose in green")
    weighed
    return (weighed,)


@app.cell
def _(mo, why):
    mo.md(f"""
    ## What woke it

    The rule *{why.activation.rule}* {why.activation.phase} an episode for {why.activation.key}: {why.activation.count} of {why.activation.total or "…"} things in its window matched,
    at a level of {why.activation.value:.3g}. These are the newest events behind it. Each has a place in a log that only grows: topic, partition, offset.
    """)
    return


@app.cell
def _(pl, table, why):
    events = pl.DataFrame({"place": [each.short for each in why.activation.events], "what it said": [each.text or each.key for each in why.activation.events]})
    table(events.head(8), "Events, newest first")
    return (events,)


@app.cell
def _(mo):
    mo.md("""
    ## What it saw, and what hung on it

    Before it decided it searched. Here is each text that came back, as it stood at that moment, and what the choice would have been without it.
    Red: without this text alone, it would have chosen something else.
    """)
    return


@app.cell
def _(BLUE, RED, pl, ranges, table, why):
    chunks = [chunk for retrieval in why.retrievals for chunk in retrieval.results]
    evidence = pl.DataFrame({
        "document": [each.document for each in chunks], "version": [each.version for each in chunks],
        "text": [" ".join(each.text.split())[:100] + "…" for each in chunks], "named as evidence": [each.used for each in chunks],
        "choice without it": [each.without.name if each.without else None for each in chunks],
        "confidence without it": [each.without.confidence if each.without else None for each in chunks],
    })  # fmt: skip
    moved = [
        (row["document"], 100 * abs(why.confidence - row["confidence without it"]), RED if row["choice without it"] != why.summary else BLUE)
        for row in evidence.drop_nulls("choice without it").iter_rows(named=True)
    ]
    weight = ranges(moved or [("no text was left out to see", 0.0, BLUE)], "How far the confidence moves if one text is left out, in points of a hundred", "points")
    table(evidence, "Evidence")
    return evidence, weight


@app.cell
def _(weight):
    weight
    return


@app.cell
def _(mo):
    mo.md("""
    ## Was it allowed to, and what happened?

    Every action is asked for first, and every answer is a record: no record, no action. Then what left the program, and what became of it.
    """)
    return


@app.cell
def _(lineage, one, table):
    rulings = lineage.sql(f"select principal, action, resource, allowed, policy from rulings where decision = '{one}' order by logged")
    table(rulings, "Rulings")
    return (rulings,)


@app.cell
def _(lineage, one, table):
    effects = lineage.sql(f"select effect, target, key, state, position from effects where decision = '{one}'")
    reviews = lineage.sql(f"select reason, question from reviews where decision = '{one}'")
    table(effects if effects.height else reviews, "Effects" if effects.height else "Nothing went out: a person was asked")
    return (effects,)


@app.cell
def _(mo):
    mo.md("""
    ## Who came before, who came after

    What an agent publishes may wake others. From this decision forwards and backwards:
    """)
    return


@app.cell
def _(pl, table, why):
    def flat(links, depth=1):
        return [row for link in links for row in ((depth, link.agent, link.summary, link.rule, link.id[:8]), *flat(link.links, depth + 1))]

    chain = [*((-depth, *rest) for depth, *rest in flat(why.before)), *flat(why.after)]
    cascade = pl.DataFrame(chain, schema=["steps away", "agent", "choice", "woken by", "decision"], orient="row")
    table(cascade, "Decisions that led here (negative) and that followed" if chain else "It stands alone: nothing led here but events, nothing followed")
    return (cascade,)


@app.cell
def _(mo):
    mo.md("""
    ## Can the records be trusted?

    Records are chained: each batch's hash covers the batch before. Whoever changes, drops, inserts or moves one has to change every hash after it, the last of which is kept
    elsewhere. And every event that any flow read must have ended in exactly one way. Here both are looked at in SQL; `headwater audit verify` computes every hash again.
    """)
    return


@app.cell
def _(lineage, table):
    chained = lineage.sql("""
        with linked as (select batch, head, next_seq - first_seq as records, previous = lag(head, 1, previous) over (order by batch) as follows from chain)
        select count(*) as batches, sum(records)::bigint as records, bool_and(follows) as "each follows the one before", arg_max(left(head, 16), batch) as "last head" from linked""")
    table(chained, "The chain")
    return (chained,)


@app.cell
def _(lineage, table):
    lost = lineage.sql("""
        with ended as (select flow, sum("count") as ended from outcomes where outcome <> 'waiting' group by all),
        open as (select 'decide/' || agent as flow, count(*) as waiting from decisions where outcome = 'waiting' group by all)
        select flow, sum("count")::bigint as consumed, any_value(ended)::bigint as ended, coalesce(any_value(waiting), 0)::bigint as "waits for a person"
        from consumed left join ended using (flow) left join open using (flow) group by flow order by flow""")
    table(lost, "What each flow read, and how much of it ended")
    return (lost,)


@app.cell
def _(mo, one):
    mo.md(f"""
    ## Go on

    `headwater why {one[:8]} --html page.html` writes this as a page, `--prov FILE` as W3C PROV-JSON for other tools, `headwater replay {one[:8]}` puts the agent before the same
    facts again.
    """)
    return


if __name__ == "__main__":
    app.run()
