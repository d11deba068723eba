import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Business impact")


@app.cell
def _():
    import marimo as mo
    import polars as pl
    from drawing import AMBER, BLUE, GREEN, RED, lineage_of_the_demo, ranges, table

    return AMBER, BLUE, GREEN, RED, lineage_of_the_demo, mo, pl, ranges, table


@app.cell
def _(mo):
    mo.md("""
    # Business impact

    What did it bring that programs decided? Four figures, for whoever pays: how long from the event to the decision, how much was done without a person, how often it was
    wrong by what really happened afterwards, and what it cost. One replayed day: 8 February 2013, when a blizzard reached New York's airports.
    """)
    return


@app.cell
def _(lineage_of_the_demo):
    lineage = lineage_of_the_demo()
    decisions = lineage.sql("""
        select d.id, d.agent, d.time, a.rule, a.key as airport, a.value as level, d.choice, d.confidence, d.outcome, d.ms, a.fired, d.decided,
               (epoch_us(d.decided) - (r.data->>'$.appended')::bigint) / 1000 as since_event
        from decisions d join activations a on a.id = d.activation join records r on r.kind = 'activation' and r.ref = a.id
        order by d.time, d.id""")
    return decisions, lineage


@app.cell
def _(mo):
    mo.md("""
    ## From event to decision

    The clock starts when the last event that a rule needed arrived, and stops when the decision was written. A control centre that reads a screen once a minute needs half a
    minute on average before anybody even starts to think.
    """)
    return


@app.cell
def _(BLUE, decisions, pl, ranges):
    waits = decisions.group_by("agent").agg(pl.col("since_event").median().alias("ms")).sort("ms")
    speed = ranges([(agent, ms / 1000, BLUE) for agent, ms in waits.drop_nulls().iter_rows()], "Median seconds from the event to the decision, by agent", "s")
    speed
    return speed, waits


@app.cell
def _(mo):
    mo.md("""
    ## What was done without a person

    *acted*: carried out at once. *no action*: looked at, nothing to do. *waiting*: the agent was not sure enough, or not allowed; a person is asked, and everything else runs on.
    """)
    return


@app.cell
def _(AMBER, BLUE, GREEN, RED, decisions, pl, ranges):
    hues = {"acted": GREEN, "approved": GREEN, "no_action": BLUE, "waiting": AMBER}
    ended = decisions.group_by("outcome").len().sort("len", descending=True)
    automation = ranges([(outcome.replace("_", " "), many, hues.get(outcome, RED)) for outcome, many in ended.iter_rows()], "How decisions ended", "decisions")
    alone = float(decisions.select(pl.col("outcome").is_in(["acted", "no_action"]).mean()).item() or 0)
    automation
    return alone, automation, ended


@app.cell
def _(alone, mo):
    mo.md(f"""
    **{alone:.0%}** of all decisions needed nobody.

    ## Was it right, by what really happened?

    Not by what was known then: by the two hours *after* each decision of the agent *recover*. The lineage knows how each flight ended, for the flights' documents say so.
    A fifth cancelled or more: passengers had to be rebooked. Fewer, but an hour late on average: departures had to be held. Otherwise watching would have been enough. Decisions after which fewer than five flights were due are left out.
    """)
    return


@app.cell
def _(lineage, pl):
    said = lineage.sql("select document, version, text from chunks where document like 'flight_status/%'").sort("document", "version").group_by("document").last()
    flights = said.with_columns(
        airport=pl.col("text").str.extract(r"\(([A-Z]{3})\) to "),
        due=pl.col("text").str.extract(r"scheduled for (\d{4}-\d\d-\d\d \d\d:\d\d)").str.to_datetime("%Y-%m-%d %H:%M", time_zone="America/New_York", ambiguous="earliest").dt.convert_time_zone("UTC"),
        cancelled=pl.col("text").str.contains(" is cancelled"),
        late=pl.col("text").str.extract(r"departed (\d+) minutes late").cast(pl.Int32).fill_null(0),
    ).drop_nulls("due")  # fmt: skip
    return (flights,)


@app.cell
def _(decisions, flights, pl):
    def afterwards(airport, at):
        """What became of the flights due there within two hours."""
        due = flights.filter((pl.col("airport") == airport) & (pl.col("due") >= at) & (pl.col("due") < at + pl.duration(hours=2)))
        gone = due.filter(~pl.col("cancelled"))
        return due.height, due["cancelled"].mean(), gone["late"].mean()

    rows = []
    for each in decisions.filter(pl.col("agent") == "recover").iter_rows(named=True):
        many, cancelled, late = afterwards(each["airport"], each["time"])
        if many >= 5:
            was = "rebook passengers" if cancelled >= 0.2 else "hold departures at the gate" if (late or 0) >= 60 else "keep watching"
            rows.append((each["id"], each["airport"], each["choice"], was, each["outcome"], each["confidence"], many, cancelled, late))
    hindsight = pl.DataFrame(
        rows, schema=["decision", "airport", "choice", "turned_out", "outcome", "confidence", "flights", "cancelled", "late"], orient="row",
        schema_overrides={"cancelled": pl.Float64, "late": pl.Float64, "confidence": pl.Float64},
    )  # fmt: skip
    return (hindsight,)


@app.cell
def _(hindsight, pl, table):
    errors = (
        hindsight.with_columns(wrong=pl.col("choice") != pl.col("turned_out"), done=pl.col("outcome") == "acted")
        .group_by(pl.col("done").alias("did it itself")).agg(pl.len().alias("decisions"), (pl.col("wrong").mean() * 100).alias("wrong in hindsight, %"), pl.col("confidence").mean())
        .sort("did it itself")
    )  # fmt: skip
    table(errors, "Error rate: what it did itself, and what it would have done but asked a person")
    return (errors,)


@app.cell
def _(hindsight, pl, table):
    examples = hindsight.with_columns(pl.col("decision").str.slice(0, 8), (pl.col("cancelled") * 100).round(0), pl.col("late").round(0))
    examples = examples.rename({"turned_out": "turned out", "cancelled": "cancelled, %", "late": "late, minutes"})
    table(examples.head(12), "The first of them: the choice, and what the two hours after it called for")
    return (examples,)


@app.cell
def _(mo):
    mo.md("""
    ## What it cost

    Every decision carries what it took. The model of this replay runs on the same machine and costs seconds; a hosted one would add tokens here, and a budget per day bounds them.
    """)
    return


@app.cell
def _(lineage, table):
    cost = lineage.ask("cost")
    table(cost, "Cost by agent, version and unit")
    return (cost,)


@app.cell
def _(alone, decisions, errors, pl, table, waits):
    did = errors.filter(pl.col("did it itself"))["wrong in hindsight, %"]
    table(pl.DataFrame({
        "decisions": [decisions.height], "without a person, %": [alone * 100], "median wait, s": [float(waits["ms"].median() or 0) / 1000],
        "wrong in hindsight, of what it did itself, %": [float(did[0]) if did.len() and did[0] is not None else None],
    }), "The day in one line")  # fmt: skip
    return


if __name__ == "__main__":
    app.run()
