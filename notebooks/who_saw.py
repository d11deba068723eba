import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Who saw what")


@app.cell
def _():
    import marimo as mo
    import polars as pl
    from drawing import AMBER, BLUE, lineage_of_the_demo, ranges, table

    return AMBER, BLUE, lineage_of_the_demo, mo, pl, ranges, table


@app.cell
def _(mo):
    mo.md("""
    # Who saw what

    A text turns out to be wrong, or somebody asks to be forgotten. Which decisions had it before their eyes, in which version, and did it matter? Each search of an agent is a
    record that holds the texts it gave, so the question has an exact answer. The data: a replayed day, 8 February 2013, New York's airports in a blizzard.
    """)
    return


@app.cell
def _(lineage_of_the_demo):
    lineage = lineage_of_the_demo()
    seen = lineage.sql("""
        select e.document, e.version, e.chunk, e.section, e.text, e.used, e.without_choice, e.rank, d.id as decision, d.agent, d.key, d.choice, d.outcome, d.time
        from evidence e join decisions d on d.id = e.decision order by d.time, d.id, e.rank""")
    return lineage, seen


@app.cell
def _(mo):
    mo.md("""
    ## What was looked at most

    Documents by the number of decisions that were shown a piece of them. Procedures should lead: they are what decisions rest on.
    """)
    return


@app.cell
def _(AMBER, BLUE, pl, ranges, seen):
    looks = seen.group_by("document").agg(pl.col("decision").n_unique().alias("decisions"), pl.col("used").sum()).sort("decisions", "document", descending=[True, False])
    most = ranges([(document, many, AMBER if document.startswith("procedures") or document.endswith(".md") else BLUE) for document, many, _ in looks.head(12).iter_rows()], "Documents by decisions that saw them; procedures in yellow", "decisions")
    most
    return looks, most


@app.cell
def _(looks, mo):
    document = looks["document"][0]
    mo.md(f"""
    ## One document: `{document}`

    Every decision that had it before its eyes, which piece, in which version, and what the choice would have been without it.
    """)
    return (document,)


@app.cell
def _(document, pl, seen, table):
    who = seen.filter(pl.col("document") == document).select(
        pl.col("time").dt.strftime("%-d %b %H:%M").alias("time, UTC"), "agent", "key", "choice", "version", pl.col("section").str.split(" › ").list.last(), "used",
        pl.col("without_choice").alias("choice without it"), pl.col("decision").str.slice(0, 8),
    )  # fmt: skip
    table(who.head(15), f"{who.height} looks; the first of them")
    return (who,)


@app.cell
def _(mo):
    mo.md("""
    ## Did it matter?

    Of the texts that were shown, how many were named as evidence, and without how many would the choice have been another? A text nobody needs is noise in every prompt.
    """)
    return


@app.cell
def _(pl, seen, table):
    weighed = pl.col("without_choice").is_not_null()
    turns = (pl.col("without_choice") != pl.col("choice")) & weighed
    mattered = seen.group_by(kind=pl.col("document").str.split("/").list.first()).agg(
        pl.len().alias("shown"), pl.col("used").sum().alias("named as evidence"), weighed.sum().alias("left out to see"), turns.sum().alias("choice turned")
    ).sort("kind")  # fmt: skip
    table(mattered, "By kind of document")
    return (mattered,)


@app.cell
def _(mo):
    mo.md("""
    ## Was anything outdated?

    A document may have got a newer version between the moment an agent saw it and now. That is no mistake, for the agent saw the newest one of *its* moment; but whoever reads
    the decision today should know.
    """)
    return


@app.cell
def _(lineage, pl, seen, table):
    newest = lineage.sql("select document, max(version) as now from documents group by document")
    outdated = (
        seen.join(newest, on="document", how="left").group_by(kind=pl.col("document").str.split("/").list.first())
        .agg(pl.len().alias("shown"), (pl.col("now") > pl.col("version")).sum().alias("has a newer version now"), (pl.col("now") < pl.col("version")).sum().alias("from the future"))
        .sort("kind")
    )  # fmt: skip
    table(outdated, "Versions then and now; nothing may come from the future")
    return newest, outdated


@app.cell
def _(mo):
    mo.md("""
    ## From a person's or a flight's side

    The other way round: one flight, all its versions, and who was shown each. `headwater ask history DOCUMENT` is the same question on the command line; `headwater erase`
    takes texts away where they must go, and keeps the proof that something stood there.
    """)
    return


@app.cell
def _(lineage, pl, seen, table):
    of_things = seen.filter(~pl.col("document").str.ends_with(".md"))
    thing = (of_things if of_things.height else seen)["document"].mode().sort()[0]
    versions = lineage.ask("history", thing)
    table(versions.select(pl.all().exclude("id", "document", "chunks", "event", "outcome", "searchable")).rename({"seen_by": "seen by"}).head(10), f"Versions of {thing}; times are UTC")
    return thing, versions


if __name__ == "__main__":
    app.run()
