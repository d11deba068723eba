"""proof: `verify` against the heads that are kept outside the database."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from headwater.lineage.heads import FILE, Signed, heads_of, read
from headwater.lineage.verify import Source, Verdict, verify


def prove(
    source: Source, home: Path, *, in_flight_ok: bool, more: Sequence[Signed] = (), trusted: str = "", heads: Path | None = None
) -> Verdict:  # fmt: skip
    """What `verify` finds, with the signed heads of the home's file and `more` of them kept; a head that is not genuine is an offence.

    trusted  the public key, as hex, that alone may have signed; without it whoever signed is believed, if it is one for all
    heads    a file of heads that was kept elsewhere, in place of the home's
    """
    signed, wrong = read(heads or home / FILE)
    kept = [*signed, *more]
    if trusted:
        wrong += _strangers(kept, trusted)
        kept = [one for one in kept if one.key == trusted]
    verdict = verify(source, in_flight_ok=in_flight_ok, kept=heads_of(kept))
    offences = (*wrong, *verdict.offences)
    newest = max(kept, key=lambda one: one.seq, default=None)
    told = (newest.seq, newest.key) if newest is not None else (0, "")
    return msgspec.structs.replace(verdict, ok=not offences, offences=offences, signed=told[0], key=told[1])


def _strangers(kept: Sequence[Signed], trusted: str) -> Iterator[str]:
    for key in sorted({one.key for one in kept} - {trusted}):
        yield f"{sum(one.key == key for one in kept)} heads are signed by the key {key[:12]}…, which is not the one that is trusted"
    if not any(one.key == trusted for one in kept):
        yield f"no head is signed by the key {trusted[:12]}…: nothing outside the database vouches for the chain"
