"""Erasing a subject, and heads kept outside the database, while everything runs."""

from headwater.flows.drain import drain
from headwater.lineage.topic import HEADS


def test_an_erased_subject_is_found_nowhere_and_all_is_proved(lake, eventually):
    """A dry run changes nothing; then search, why, SQL and the document's page tell nothing of the text, and the walk goes on."""
    gauge, other = lake.gauge(), lake.gauge()
    lake.publish(id=f"{gauge}-1", gauge=gauge, metres=0.3)
    lake.publish(id=f"{other}-1", gauge=other, metres=0.4)
    lake.search(gauge, after=lake.publish(id=f"{gauge}-2", gauge=gauge, metres=0.5))
    seen = f"SELECT text FROM chunks WHERE document = 'level/{gauge}'"
    texts = eventually(lambda: len(found := lake.sql(seen)) == 2 and [row["text"] for row in found])
    asked = {"subject": gauge, "by": "ann", "why": "asked by the gauge"}
    told = lake.http.post("/v1/erase", json=asked).json()
    assert told["plan"]["documents"] == [f"level/{gauge}"] and not told["record"]
    assert [row["text"] for row in lake.sql(seen)] == texts
    done = lake.http.post("/v1/erase", json={**asked, "dry_run": False}).json()
    assert done["record"] and done["points"] >= 1
    assert all(row["text"].startswith("erased on ") for row in lake.sql(seen))
    assert lake.http.get(f"/v1/why/level/{gauge}").json()["documents"][0]["text"].startswith("erased on ")
    assert f"level/{gauge}" not in {hit["document"] for hit in lake.search(gauge, limit=50).json()["results"]}
    removals = lake.sql(f"SELECT removed_by, why FROM removals WHERE subject = '{gauge}'")
    assert removals == [{"removed_by": "ann", "why": "asked by the gauge"}]
    token = lake.publish(id=f"{gauge}-3", gauge=gauge, metres=0.6)
    assert f"level/{gauge}" in {hit["document"] for hit in lake.search(gauge, after=token, limit=50).json()["results"]}
    assert lake.http.get("/v1/verify").json()["offences"] == []


def test_nobody_of_that_name_is_a_problem(lake):
    """404 for a subject that no record names: nothing is erased by a misspelt name; without a reason nothing is done at all."""
    answer = lake.http.post("/v1/erase", json={"subject": "nobody-at-all", "by": "ann", "why": "x", "dry_run": False})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:headwater:not_found")


def test_the_heads_of_the_chain_are_signed_while_it_grows(lake, eventually):
    """A head is in the file and on its topic within seconds, and `verify` tells up to which record; with `deep` those of the topic too."""
    lake.publish(id=f"{lake.gauge()}-1", gauge=lake.gauge(), metres=0.3)
    signed = eventually(lambda: lake.http.get("/v1/verify").json()["signed"])
    assert 0 < signed <= lake.sql("SELECT count(*) AS n FROM records")[0]["n"]
    eventually(lambda: list(drain(lake.up.run.kafka, HEADS, 0, 0)))
    assert lake.http.get("/v1/verify", params={"deep": True}).json()["signed"] >= signed
