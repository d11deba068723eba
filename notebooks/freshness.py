import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Freshness and throughput")


@app.cell
def _():
    import marimo as mo
    import polars as pl
    from drawing import AMBER, BLUE, RED, columns, lineage_of_the_demo, ranges, round_step, table

    return AMBER, BLUE, RED, columns, lineage_of_the_demo, mo, pl, ranges, round_step, table


@app.cell
def _(mo):
    mo.md("""
    # Freshness and throughput

    An agent that searches yesterday's index decides about yesterday. So two things are measured for every event: how long after it arrived it could be found, and how many
    arrived meanwhile. The data is one replayed day, 8 February 2013 in New York: flights and weather, sent as fast as the index keeps up.
    """)
    return


@app.cell
def _(lineage_of_the_demo, pl):
    lineage = lineage_of_the_demo()
    fresh = lineage.sql("select topic, document, outcome, appended, settled, ms from freshness order by settled")
    began = fresh["appended"].min()
    timed = fresh.with_columns(second=(pl.col("settled") - began).dt.total_seconds())
    return fresh, lineage, timed


@app.cell
def _(mo):
    mo.md("""
    ## From arrival to searchable

    A document is searchable when a query sent now would return it. Most take the time of one small batch; the slow end of the distribution is where texts had to be embedded
    anew by the model, which is the slowest part of the system.
    """)
    return


@app.cell
def _(BLUE, columns, fresh, pl, round_step):
    step = round_step(float(fresh["ms"].quantile(0.99) or 1), 40)
    slots = fresh.select(slot=(pl.col("ms") / step).floor().cast(pl.Int32).clip(0, 39)).group_by("slot").len()
    many = dict(slots.iter_rows())
    spread = columns([(f"{step * slot:.0f} ms", many.get(slot, 0), BLUE) for slot in range(40)], "How long documents took from arrival to searchable", "documents", "milliseconds from arrival to searchable; the last bar: that or longer")
    spread
    return (spread,)


@app.cell
def _(fresh, pl, table):
    quantiles = fresh.group_by("topic").agg(
        pl.len().alias("documents"), *(pl.col("ms").quantile(q / 100).alias(f"p{q}, ms") for q in (50, 90, 99)), pl.col("ms").max().alias("longest, ms")
    ).sort("topic")  # fmt: skip
    table(quantiles, "By topic")
    return (quantiles,)


@app.cell
def _(mo):
    mo.md("""
    ## Throughput, and whether it costs freshness

    Documents settled per second of the replay, and in each second the slowest tenth's time. A system that falls behind shows it here: the lower picture climbs while the upper
    stays level. Red: seconds in which a tenth of the documents took more than a second.
    """)
    return


@app.cell
def _(AMBER, BLUE, RED, columns, mo, pl, timed):
    width = max(1, int((timed["second"].max() or 0) // 60 + 1))
    by_second = timed.group_by(at=pl.col("second") // width * width).agg(documents=pl.len() / width, slow=pl.col("ms").quantile(0.9))
    # Also the seconds in which nothing came.
    every = pl.DataFrame({"at": range(0, int(timed["second"].max() or 0) + 1, width)}, schema={"at": pl.Int64})
    by_second = every.join(by_second, on="at", how="left").fill_null(0)
    rate = columns([(f"{at} s", many, BLUE) for at, many, _ in by_second.iter_rows()], "Documents that became searchable, per second", "documents per second", "seconds since the replay began")
    behind = columns([(f"{at} s", slow, RED if slow > 1000 else AMBER) for at, _, slow in by_second.iter_rows()], "What the slowest tenth of documents took (90th percentile); red: over a second", "ms", "seconds since the replay began")
    mo.vstack([rate, behind])
    return behind, by_second, rate


@app.cell
def _(mo):
    mo.md("""
    ## Where a decision's time goes

    From an agent being woken to its decision being written, on average. Searching includes waiting until everything that woke the agent is in the index: it never decides on less.
    """)
    return


@app.cell
def _(lineage, table):
    stages = lineage.sql("""
        with seen as (select split_part(ref, ':', 1) as id, sum((data->>'$.waited_ms')::double) as searching from records where kind = 'retrieval' group by all),
        asked as (select split_part(ref, ':', 1) as id, sum((data->>'$.seconds')::double) * 1000 as model from records where kind = 'model' group by all)
        select agent, count(*) as decisions, avg(coalesce(searching, 0)) as "searching, ms", avg(coalesce(asked.model, 0)) as "the model, ms", avg(ms) as "in all, ms"
        from decisions left join seen using (id) left join asked using (id) group by agent order by "in all, ms" desc""")
    table(stages, "Agents")
    return (stages,)


@app.cell
def _(BLUE, ranges, stages):
    whole = ranges([(row["agent"], row["in all, ms"], BLUE) for row in stages.iter_rows(named=True)], "Milliseconds from woken to decided, by agent", "ms")
    whole
    return (whole,)


@app.cell
def _(mo):
    mo.md("""
    ## Did it lose anything on the way?

    Fast is easy for who drops what is hard. Every event that was read ended in one of these ways. `unchanged` and `stale` cost no embedding: the text was there already,
    or something newer was.
    """)
    return


@app.cell
def _(lineage, table):
    ended = lineage.ask("conservation")
    table(ended, "How events ended")
    return (ended,)


if __name__ == "__main__":
    app.run()
