import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Decision quality, calibration and drift")


@app.cell
def _():
    import math

    import marimo as mo
    import polars as pl
    from drawing import AMBER, BLUE, GREEN, RED, dots, lineage_of_the_demo, ranges, table

    from headwater.agents.calibration import Answered, calibration

    return AMBER, BLUE, Answered, GREEN, RED, calibration, dots, lineage_of_the_demo, math, mo, pl, ranges, table


@app.cell
def _(mo):
    mo.md("""
    # Decision quality, calibration and drift

    Three questions about an agent that decides by itself. Is it right? Is it right as often as it says, so that "0.9" can be trusted? And does a new version decide as the
    old one did? The data is one replayed day of a blizzard (8 February 2013, New York), in which the agent *recover* chose what each airport does.
    """)
    return


@app.cell
def _(lineage_of_the_demo):
    lineage = lineage_of_the_demo()
    decisions = lineage.sql("""
        select d.id, d.agent, d.version, d.time, d.rule, d.key as airport, a.value as level, d.choice, d.confidence, d.outcome
        from decisions d join activations a on a.id = d.activation where d.agent = 'recover' order by d.time, d.id""")
    return decisions, lineage


@app.cell
def _(mo):
    mo.md("""
    ## Was it right?

    The procedures of the airports are numbers, so the right answer can be computed, without any model, from the level at which the rule fired:
    a fifth of the flights cancelled or more calls for *rebook passengers*; an hour's delay or a mile of sight for *hold departures*; everything else for *keep watching*.
    """)
    return


@app.cell
def _(decisions, pl):
    level = pl.col("level")
    called_for = (
        pl.when((pl.col("rule") == "cancellations") & (level >= 0.2)).then(pl.lit("rebook passengers"))
        .when((pl.col("rule") == "delays") & (level >= 60)).then(pl.lit("hold departures at the gate"))
        .when((pl.col("rule") == "visibility") & (level <= 1)).then(pl.lit("hold departures at the gate"))
        .otherwise(pl.lit("keep watching"))
    )  # fmt: skip
    judged = decisions.with_columns(called_for=called_for).with_columns(right=pl.col("choice") == pl.col("called_for"))
    return (judged,)


@app.cell
def _(judged, pl, table):
    confusion = judged.group_by("called_for", "choice").agg(pl.len().alias("decisions"), pl.col("confidence").mean()).sort("called_for", "decisions", descending=[False, True])
    table(confusion, "What the numbers called for, and what was chosen")
    return (confusion,)


@app.cell
def _(GREEN, RED, judged, pl, ranges):
    by_rule = judged.group_by("rule").agg(share=pl.col("right").mean(), many=pl.len()).sort("rule")
    rightness = ranges([(f"{rule} ({many} decisions)", share * 100, GREEN if share >= 0.9 else RED) for rule, share, many in by_rule.iter_rows()], "Share right, by the rule that woke it", "% right")
    rightness
    return by_rule, rightness


@app.cell
def _(mo):
    mo.md("""
    ## Is it as sure as it should be?

    Each dot is a group of decisions of like confidence: across, what they said on average; up, what share was right. On the dashed line both are equal. Above it the agent is
    too modest, below it too sure, and there a person should be asked sooner (`act_above`). With few decisions the interval of the error is wide; it is given beside it.
    """)
    return


@app.cell
def _(Answered, BLUE, calibration, dots, judged, pl, table):
    answered = judged.filter(pl.col("confidence") < 1)
    found = calibration([Answered(confidence, right) for confidence, right in answered.select("confidence", "right").iter_rows()] or [Answered(1.0, True)])
    reliable = dots(
        [(each.confidence, each.right, BLUE, f"{each.many} decisions") for each in found.bins if each.many],
        "Share right against confidence", "what it said", "share right",
    )  # fmt: skip
    error = table(pl.DataFrame({"decisions": [found.many], "right, share": [found.right], "said, on average": [found.confidence], "calibration error": [found.error], "at least": [found.low], "at most": [found.high]}))
    return answered, error, found, reliable


@app.cell
def _(error, mo, reliable):
    mo.vstack([reliable, error])
    return


@app.cell
def _(mo):
    mo.md("""
    ## What would another threshold do?

    Below `act_above` nothing happens and a person is asked. A higher threshold means fewer mistakes and more questions; this is the exchange rate.
    """)
    return


@app.cell
def _(judged, pl, table):
    rows = []
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        acts = judged.filter(pl.col("confidence") >= threshold)
        rows.append((threshold, acts.height, judged.height - acts.height, (~acts["right"]).sum()))
    thresholds = pl.DataFrame(rows, schema=["act above", "decides itself", "asks a person", "mistakes it makes itself"], orient="row")
    table(thresholds, "If the agent acted above …")
    return (thresholds,)


@app.cell
def _(mo):
    mo.md("""
    ## Has it drifted?

    Two sides are compared: the newest version of the agent with the one before. Where the lineage knows one version only, as after a single replay, the later half of its
    decisions is compared with the earlier half instead, which shows how the *situation* changed rather than the agent.
    The population stability index sums up how far two distributions lie apart: below 0.1 nothing to see, above 0.25 look into it.
    """)
    return


@app.cell
def _(judged, pl):
    versions = judged.group_by("version").agg(pl.col("time").min()).sort("time")["version"].to_list()
    if len(versions) > 1:
        sides = f"version {versions[-2]}", f"version {versions[-1]}"
        before, after = (judged.filter(pl.col("version") == version) for version in versions[-2:])
    else:
        sides = f"version {versions[0]}, first half", "second half"
        before, after = judged.head(judged.height // 2), judged.tail(judged.height - judged.height // 2)
    return after, before, sides


@app.cell
def _(after, before, pl, sides, table):
    def shares(frame):
        return dict(frame.group_by("choice").len().with_columns(pl.col("len") / max(frame.height, 1)).iter_rows())

    then, now = shares(before), shares(after)
    shift = pl.DataFrame(
        [(choice, then.get(choice, 0.0), now.get(choice, 0.0)) for choice in sorted({*then, *now})], schema=["choice", *sides], orient="row"
    )
    table(shift, "Share of each choice")
    return now, shift, then


@app.cell
def _(after, before, math, now, pl, then):
    def index(one, other):
        """The population stability index; a choice that one side never made counts as half a decision there."""
        least = 0.5 / max(before.height, after.height, 1)
        pairs = [(max(one.get(name, 0.0), least), max(other.get(name, 0.0), least)) for name in {*one, *other}]
        return sum((b - a) * math.log(b / a) for a, b in pairs)

    drift = pl.DataFrame({
        "index, of choices": [index(then, now)], "confidence before": [before["confidence"].mean()], "confidence after": [after["confidence"].mean()],
        "right before": [before["right"].mean()], "right after": [after["right"].mean()],
    })  # fmt: skip
    return (drift,)


@app.cell
def _(AMBER, BLUE, drift, mo, ranges, shift, table):
    moved = ranges([pair for choice, a, b in shift.iter_rows() for pair in ((f"{choice}, before", a * 100, BLUE), (f"{choice}, after", b * 100, AMBER))], "Choices before and after", "%")
    mo.vstack([moved, table(drift, "Population stability index and means")])
    return (moved,)


@app.cell
def _(mo):
    mo.md("""
    ## Go on

    `headwater replay --all --agent NAME@VERSION` puts another version before the very same facts, so that nothing but the agent differs, and sums up what changed.
    """)
    return


if __name__ == "__main__":
    app.run()
