"""proof: `verify` against the heads that are kept outside the database."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from headwater.lineage.heads import FILE, Signed, heads_of, read
from headwater.lineage.verify import Source, Verdict, verify


def prove(source: Source, home: Path, *, in_flight_ok: bool, more: Sequence[Signed] = ()) -> Verdict:
    """What `verify` finds, with the signed heads of the home's file and `more` of them kept; a head that is not genuine is an offence."""
    signed, wrong = read(home / FILE)
    kept = [*signed, *more]
    verdict = verify(source, in_flight_ok=in_flight_ok, kept=heads_of(kept))
    offences = (*wrong, *verdict.offences)
    return msgspec.structs.replace(verdict, ok=not offences, offences=offences, signed=max((one.seq for one in kept), default=0))
