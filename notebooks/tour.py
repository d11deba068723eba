import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="A disruption, seen by an analyst")


@app.cell
def _():
    import base64
    import html
    import os
    from datetime import date
    from pathlib import Path

    import marimo as mo
    import polars as pl
    from rich.console import Console

    from headwater.lineage.client import connect
    from headwater.lineage.show import why_tree

    return Console, Path, base64, connect, date, html, mo, os, pl, why_tree


@app.cell
def _(mo):
    mo.md("""
    # A disruption, seen by an analyst

    On 8 February 2013 a blizzard closed in on New York. headwater replayed that day: every flight of the three airports, every hour of weather.
    Its rules noticed, its agent decided, and every step left a record in a DuckDB file.
    This notebook asks that file what happened. It reads only; all it needs is SQL and polars.

    On a running headwater the same code works over HTTP: give `connect` its address instead of a file.
    """)
    return


@app.cell
def _(Path, connect, date, os):
    home = Path(os.environ.get("HEADWATER_HOME", ".headwater"))
    file = home / "demo" / "lineage.duckdb"
    if not file.is_file():
        # Nobody has run the demo yet: one day of it, the blizzard's first. It takes about a minute.
        import headwater.flows.demo as demo
        from headwater.flows.settings import Settings

        demo.run(Settings(home=home), date(2013, 2, 8), date(2013, 2, 8))
    lineage = connect(file)
    return file, lineage


@app.cell
def _(base64, html, mo, pl):
    def table(frame: pl.DataFrame, caption: str = "") -> mo.Html:
        """A frame as a plain HTML table, which every viewer of notebooks can show."""
        cell = "text-align:left;vertical-align:top;padding:1px 10px"
        head = "".join(f"<th style='{cell}'>{html.escape(name)}</th>" for name in frame.columns)
        rows = "".join("<tr>" + "".join(f"<td style='{cell}'>{html.escape(shown(value))}</td>" for value in row) + "</tr>" for row in frame.iter_rows())
        return mo.Html(f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")

    def shown(value: object) -> str:
        return "" if value is None else (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

    def picture(shapes: str, width: int, height: int, title: str) -> mo.Html:
        """An SVG drawing as an image under its title, which is its text too for who does not see it."""
        body = f"<rect width='100%' height='100%' fill='white'/><text x='10' y='18' font-size='13' font-weight='bold'>{html.escape(title)}</text><g transform='translate(0,28)'>{shapes}</g>"
        svg = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height + 28}' font-family='sans-serif' font-size='11'>{body}</svg>"
        return mo.Html(f"<img alt='{html.escape(title)}' src='data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}'/>")

    def bars(values: list[tuple[float, float, str]], slots: int, width: float, height: float) -> str:
        """Bars of (left, value, colour), left and value from 0 to 1, as wide as one of the slots."""
        each = width / slots - 1
        return "".join(
            f"<rect x='{left * width:.1f}' y='{height * (1 - value):.1f}' width='{each:.1f}' height='{height * value:.1f}' fill='{colour}'/>"
            for left, value, colour in values
        )

    return bars, picture, table


@app.cell
def _(mo):
    mo.md("""
    ## What happened

    Flights as the index saw them: each event became a version of a document, and the document's text says what became of the flight.
    Hours are New York's. Below the bars, the moments at which rules fired.
    """)
    return


@app.cell
def _(lineage, pl):
    NEW_YORK = "America/New_York"
    flights = (
        lineage.sql("""
        select time, document, regexp_extract(text, ' is (cancelled)|, (departed)', 0) as said
        from chunks where document like 'flight_status/2013-02-08-%'""")
        .with_columns(hour=pl.col("time").dt.convert_time_zone(NEW_YORK).dt.hour(), origin=pl.col("document").str.slice(25, 3))
        .with_columns(status=pl.when(pl.col("said").str.contains("cancelled")).then(pl.lit("cancelled")).when(pl.col("said") != "").then(pl.lit("departed")))
        .drop_nulls("status")
    )
    by_hour = flights.group_by("hour", "status").len().sort("hour", "status")
    activations = lineage.sql("select time, rule, key, phase, value, matched, total, id from activations order by time, rule, key").with_columns(
        at=pl.col("time").dt.convert_time_zone(NEW_YORK)
    )
    return NEW_YORK, activations, by_hour, flights


@app.cell
def _(activations, bars, by_hour, date, picture):
    COLOURS = {"departed": "#9db8d2", "cancelled": "#c8553d"}
    PHASES = {"opened": "#6d597a", "updated": "#e8b04b", "closed": "#6a994e"}
    most = max(by_hour["len"].to_list(), default=1)
    counts = [((hour + (status == "cancelled") / 2) / 24, many / most, COLOURS[status]) for hour, status, many in by_hour.iter_rows()]
    moments = [
        (at.hour + at.minute / 60, rule, phase)
        for at, rule, phase in activations.select("at", "rule", "phase").iter_rows()
        if at.date() == date(2013, 2, 8)
    ]
    lines = {rule: 190 + 16 * n for n, rule in enumerate(sorted({rule for _, rule, _ in moments}))}
    marks = "".join(
        f"<circle cx='{10 + hour / 24 * 620:.1f}' cy='{lines[rule]}' r='4' fill='{PHASES[phase]}'/>"
        for hour, rule, phase in moments
    )
    names = "".join(f"<text x='640' y='{y + 4}'>{rule}</text>" for rule, y in lines.items())
    hours = "".join(f"<text x='{10 + hour / 24 * 620:.0f}' y='176'>{hour}h</text>" for hour in range(0, 24, 3))
    key = "".join(
        f"<rect x='640' y='{16 + 18 * n}' width='10' height='10' fill='{colour}'/><text x='655' y='{25 + 18 * n}'>{name}</text>"
        for n, (name, colour) in enumerate([*COLOURS.items(), *PHASES.items()])
    )
    timeline = picture(
        f"<text x='10' y='8' fill='#8d99a6'>the highest: {most} flights in an hour</text><g transform='translate(10,12)'>{bars(counts, 48, 620, 148)}</g>{hours}{marks}{names}{key}",
        760, 190 + 16 * len(lines), "Flights departed and cancelled by hour on 8 February, and the activations of each rule",
    )  # fmt: skip
    timeline
    return (timeline,)


@app.cell
def _(flights, pl, table):
    table(
        flights.group_by("origin")
        .agg(departed=(pl.col("status") == "departed").sum(), cancelled=(pl.col("status") == "cancelled").sum())
        .sort("origin"),
        "8 February: what became of the flights, as far as the index saw it",
    )
    return


@app.cell
def _(activations, table):
    table(
        activations.with_columns(at=activations["at"].dt.strftime("%-d %b %H:%M")).select("at", "rule", "key", "phase", "value", "matched", "total"),
        "Activations, by New York's time: one disruption is one episode, opened, updated and closed",
    )
    return


@app.cell
def _(mo):
    mo.md("""
    ## What was decided

    Each opening and update of *cancellations* and *visibility* woke the agent *recover*. It chose one of three responses with a confidence; below 0.8 nothing was published
    and a person is asked (`waiting`). The plans that it published woke the agents *crew*, *rebooking* and *inform*, which follow rules, ask no model and are sure of themselves.
    """)
    return


@app.cell
def _(NEW_YORK, lineage, pl, table):
    decisions = lineage.sql("select time, agent, rule, key, choice, confidence, outcome, ms, id from decisions order by time, agent = 'recover' desc, id")
    table(
        decisions.with_columns(at=pl.col("time").dt.convert_time_zone(NEW_YORK).dt.strftime("%-d %b %H:%M"), id=pl.col("id").str.slice(0, 8)).select(
            "at", "agent", "rule", "key", "choice", "confidence", "outcome", "id"
        ),
        "Decisions, by New York's time",
    )
    return (decisions,)


@app.cell
def _(mo):
    mo.md("""
    ## Why one of them

    The surest decision that a model had a say in and that did something, with its path (its times are UTC, five hours ahead of New York's): the events that woke it, what it saw and what it would have chosen without each piece, the options, the effect.
    `headwater why ID` prints the same; `--html FILE` makes a page of it.
    """)
    return


@app.cell
def _(Console, decisions, html, lineage, mo, pl, why_tree):
    acted = decisions.filter(pl.col("outcome") == "acted")
    weighed = acted.filter(pl.col("confidence") < 1).sort("confidence", "id", descending=[True, False])
    one = next(frame for frame in (weighed, acted, decisions) if frame.height)["id"][0]
    why = lineage.why(one)
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=118, file=nowhere)
        console.print(why_tree(why))
    mo.Html(f"<pre>{html.escape(console.export_text())}</pre>")
    return one, why


@app.cell
def _(mo):
    mo.md("""
    ## What it saw

    The same as rows: each chunk by its rank in the search that found it (ranks repeat where several searches were made), with the text as it stood then. These rows stay, whatever the index says today.
    """)
    return


@app.cell
def _(lineage, one, pl, table):
    evidence = lineage.sql(f"""
        select rank, document, section, left(text, 90) || '…' as text, without_choice as "choice without it", without_confidence as confidence
        from evidence where decision = '{one}' order by rank, document""")
    table(evidence.with_columns(pl.col("text").str.replace_all("\n", " ")), f"Evidence of decision {one[:8]}")
    return (evidence,)


@app.cell
def _(mo):
    mo.md("""
    ## How fresh it was

    From the moment an event was appended to the moment its document could be found, for every document version of the replay.
    """)
    return


@app.cell
def _(bars, lineage, picture, pl, table):
    fresh = lineage.sql("select ms from freshness")["ms"]
    slots = 40
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000) if step * slots >= (fresh.quantile(0.99) or 1) or step == 100_000)
    spread = fresh.to_frame().select(slot=(pl.col("ms") / step).floor().cast(pl.Int32).clip(0, slots - 1)).group_by("slot").len()
    full = max(spread["len"].to_list(), default=1)
    columns = [(slot / slots, many / full, "#9db8d2") for slot, many in spread.iter_rows()]
    scale = "".join(f"<text x='{10 + 620 * part:.0f}' y='136'>{step * slots * part:.0f} ms</text>" for part in (0, 0.25, 0.5, 0.75))
    scale += f"<text x='10' y='8' fill='#8d99a6'>the highest: {full} documents; the last: that or longer</text>"
    histogram = picture(f"<g transform='translate(10,14)'>{bars(columns, slots, 620, 106)}</g>{scale}", 700, 145, "Milliseconds from append to searchable")
    quantiles = table(pl.DataFrame({"documents": [fresh.len()], **{f"p{q}, ms": [fresh.quantile(q / 100)] for q in (50, 90, 99)}}))
    return histogram, quantiles


@app.cell
def _(histogram, mo, quantiles):
    mo.vstack([histogram, quantiles])
    return


@app.cell
def _(mo):
    mo.md("""
    ## Did anything get lost?

    Conservation: what each flow consumed, and how it ended. The two must be equal, flow by flow; `headwater audit verify` checks it by ranges and counts,
    and that no record was changed since. An `index` outcome of `stale` is a flight that left early: its `due` event came after it had departed.
    """)
    return


@app.cell
def _(lineage, pl, table):
    consumed = lineage.sql('select flow, sum("count")::bigint as consumed from consumed group by flow')
    ended = lineage.sql('select flow, outcome, sum("count")::bigint as positions from outcomes where outcome <> \'waiting\' group by all')
    waiting = lineage.sql("select 'decide/' || agent as flow, count(*) as waiting from decisions where outcome = 'waiting' group by all")
    conservation = (
        ended.pivot("outcome", index="flow", values="positions")
        .join(waiting, on="flow", how="left")
        .join(consumed, on="flow", how="full", coalesce=True)
        .fill_null(0)
        .with_columns(ended_or_open=pl.sum_horizontal(pl.exclude("flow", "consumed")))
        .sort("flow")
    )
    table(conservation, "Positions by flow and outcome")
    return (conservation,)


@app.cell
def _(mo):
    mo.md("""
    ## Go on

    `lineage.sql("show tables")` lists the views, `lineage.sql("describe decisions")` their columns; docs/interfaces.md says what a row of each is.
    """)
    return


@app.cell
def _(lineage, table):
    table(lineage.sql("select agent, version, count(*) as decisions, round(avg(ms)) as ms, round(avg(confidence), 2) as confidence from decisions group by all order by agent, version"))
    return


if __name__ == "__main__":
    app.run()
