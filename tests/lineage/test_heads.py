import shutil
import stat

import duckdb
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage.chain import LEAF, ROOT, Head, head
from headwater.lineage.errors import Misused
from headwater.lineage.heads import FILE, KEY, Heads, is_genuine, own_key, read, sign
from headwater.lineage.proof import prove
from headwater.lineage.store import Store
from headwater.lineage.testing import landings, sample_records

BATCHES = 6


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A home whose chain has six batches, every head of them signed."""
    home = tmp_path_factory.mktemp("signed")
    heads = Heads(home, clock=lambda: 7)
    with Store(home / "lineage.duckdb", clock=lambda: 1) as store:
        for landing in landings(sample_records(), 5):
            store.land([landing])
            assert heads.keep(store.head()) and not heads.keep(store.head())
        assert prove(store, home, in_flight_ok=False).ok
        assert prove(store, home, in_flight_ok=False).signed == store.head().seq
        assert store.head().batch == BATCHES
    return home


def rechained(connection):
    """What whoever can write the database does to hide an edit: leaves, roots and heads computed anew, in order."""
    connection.execute(f"UPDATE records SET leaf = {LEAF}")
    previous, first = "0" * 64, 0
    connection.execute("DELETE FROM chain")
    for batch, _, following in connection.execute(
        "SELECT batch, min(seq), max(seq) + 1 FROM records GROUP BY batch ORDER BY batch"
    ).fetchall():
        root = connection.execute(f"SELECT {ROOT} FROM records WHERE batch = ?", [batch]).fetchall()[0][0]
        new = head(batch, first, following, root, previous)
        connection.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, now())", [batch, first, following, root, previous, new])
        previous, first = new, following


EDITS = {
    "change": "UPDATE records SET logged = logged + INTERVAL 1 SECOND WHERE seq = {n}",
    "drop": "DELETE FROM records WHERE seq = {n}; UPDATE records SET seq = seq - 1 WHERE seq > {n}",
    "insert": (
        "UPDATE records SET seq = seq + 1 WHERE seq >= {n}; "
        "INSERT INTO records SELECT * REPLACE ({n} AS seq, 'forged' AS id) FROM records WHERE seq = {n} + 1"
    ),
    "reorder": "UPDATE records SET seq = CASE seq WHEN {n} THEN {n} - 1 ELSE {n} END WHERE seq IN ({n}, {n} - 1)",
    "truncate": "DELETE FROM records WHERE batch > {batch}; DELETE FROM chain WHERE batch > {batch}",
}


@settings(max_examples=12, deadline=None)
@given(edit=st.sampled_from(sorted(EDITS)), n=st.integers(1, 27), batch=st.integers(0, BATCHES - 1), hidden=st.booleans())
def test_whoever_can_write_the_database_cannot_hide_it(signed, tmp_path_factory, edit, n, batch, hidden):
    """Law 8: a record changed, dropped, put in or moved, or the end cut off, is found even if the whole chain is computed anew."""
    home = tmp_path_factory.mktemp("tampered")
    for name in (FILE, "lineage.duckdb"):
        shutil.copy(signed / name, home / name)
    with duckdb.connect(str(home / "lineage.duckdb")) as connection:
        connection.execute(EDITS[edit].format(n=n, batch=batch))
        if hidden:
            rechained(connection)
    with Store(home / "lineage.duckdb", clock=lambda: 1) as store:
        verdict = prove(store, home, in_flight_ok=True)
    assert not verdict.ok and any(word in verdict.offences[0] for word in ("record", "batch", "chain"))


def test_a_head_that_was_forged_or_signed_by_another_is_named(signed, tmp_path):
    """A head rewritten in the file breaks its signature; one of another key is not taken for ours; rubbish is told by its line."""
    lines = (signed / FILE).read_bytes().splitlines()
    kept, wrong = read(signed / FILE)
    assert not wrong and all(map(is_genuine, kept))
    (tmp_path / FILE).write_bytes(b"\n".join([msgspec.json.encode(msgspec.structs.replace(kept[0], seq=3)), *lines[1:], b""]))
    assert "batch 1 in heads.jsonl is not signed by the key it names" in read(tmp_path / FILE)[1][0]
    other = sign(kept[0].plain, 7, own_key(tmp_path / KEY))
    (tmp_path / FILE).write_bytes(b"\n".join([msgspec.json.encode(other), *lines[1:], b""]))
    assert "heads of 2 keys" in read(tmp_path / FILE)[1][0]
    (tmp_path / FILE).write_bytes(b"\n".join([b"rubbish", *lines, b""]))
    assert read(tmp_path / FILE)[1] == ["line 1 of heads.jsonl is no signed head"]


def test_an_auditor_trusts_one_key_alone(signed, tmp_path):
    """With the public key and a copy of the heads, kept elsewhere: a chain rewritten and signed by another key is found."""
    shutil.copy(signed / FILE, tmp_path / "kept.jsonl")
    key = read(signed / FILE)[0][0].key
    shutil.copy(signed / "lineage.duckdb", tmp_path / "lineage.duckdb")
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        verdict = prove(store, tmp_path, in_flight_ok=False, trusted=key, heads=tmp_path / "kept.jsonl")
        assert verdict.ok and (verdict.signed, verdict.key) == (store.head().seq, key)
        assert "nothing outside the database vouches" in prove(store, tmp_path, in_flight_ok=False, trusted=key).offences[0]
    with duckdb.connect(str(tmp_path / "lineage.duckdb")) as connection:
        connection.execute(EDITS["change"].format(n=3))
        rechained(connection)
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        assert Heads(tmp_path, clock=lambda: 9).keep(store.head())
        assert prove(store, tmp_path, in_flight_ok=False).ok, "whoever has the file can sign it with a key of their own"
        offences = prove(store, tmp_path, in_flight_ok=False, trusted=key).offences
        assert "not the one that is trusted" in offences[0] and "no head is signed" in offences[1]
        assert not prove(store, tmp_path, in_flight_ok=False, trusted=key, heads=tmp_path / "kept.jsonl").ok


def test_a_kill_while_a_head_is_written_is_no_offence(signed, tmp_path):
    """Half a line at the end is what a kill leaves: it counts as not written, and the next head stands on a line of its own."""
    lines = (signed / FILE).read_bytes().splitlines()
    (tmp_path / FILE).write_bytes(b"\n".join(lines[:3]) + b"\n" + lines[3][:40])
    shutil.copy(signed / KEY, tmp_path / KEY)
    assert Heads(tmp_path, clock=lambda: 7).keep(Head(4, 20, "ab" * 32))
    kept, wrong = read(tmp_path / FILE)
    assert [one.batch for one in kept] == [1, 2, 3, 4] and not wrong


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path):
    """Made on first use with mode 600; a key that is given comes before it; what is no Ed25519 key is refused by name."""
    first = own_key(tmp_path / KEY)
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600
    assert own_key(tmp_path / KEY).private_bytes_raw() == first.private_bytes_raw()
    given = (tmp_path / KEY).read_text()
    assert own_key(tmp_path / "another", given).private_bytes_raw() == first.private_bytes_raw() and not (tmp_path / "another").exists()
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for wrong in ("no key", other):
        with pytest.raises(Misused, match="HEADWATER_HEADS__PRIVATE_KEY"):
            own_key(tmp_path / KEY, wrong)
