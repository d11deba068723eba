"""heads: the chain's heads, signed and kept outside the database, so that nobody rewrites the chain or cuts its end unseen.

A file with one JSON line per head, and whoever else is told. The Ed25519 key lies beside it, readable by its owner only, or is given.
What landed after the last signed head is only as safe as the database itself.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from headwater.lineage.chain import Head
from headwater.lineage.errors import Misused

FILE, KEY = "heads.jsonl", "heads.key"


class Signed(msgspec.Struct, frozen=True):
    """A head with who signed it and when: `at` in µs since 1970, `key` the public key and `signature` as hex."""

    batch: int
    seq: int
    head: str
    at: int
    key: str
    signature: str

    @property
    def plain(self) -> Head:
        return Head(self.batch, self.seq, self.head)


def own_key(path: Path, given: str = "") -> Ed25519PrivateKey:
    """The key given as PEM, or that of the file, made on first use. Raises Misused if it is no Ed25519 key."""
    if not given and not path.exists():
        made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
    where = "HEADWATER_HEADS__PRIVATE_KEY" if given else str(path)
    try:
        key = load_pem_private_key(given.encode() if given else path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise Misused(f"{where} is no private key in PEM ({type(error).__name__}); make one: openssl genpkey -algorithm ed25519") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Misused(f"{where} is no Ed25519 key; make one: openssl genpkey -algorithm ed25519")
    return key


def public_of(key: Ed25519PrivateKey) -> str:
    """The public key, as hex."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def sign(head: Head, at: int, key: Ed25519PrivateKey) -> Signed:
    """The head, signed."""
    public = public_of(key)
    return Signed(*head, at, public, key.sign(_said(head, at, public)).hex())


def is_genuine(signed: Signed) -> bool:
    """Whether the signature is of the key that the line names; whether that key is to be trusted is another question."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.key))
        key.verify(bytes.fromhex(signed.signature), _said(signed.plain, signed.at, signed.key))
    except (ValueError, InvalidSignature):
        return False
    return True


class Heads:
    """Signs the newest head and appends it to the file. `told` hears of each; `clock` gives µs since 1970. One thread at a time."""

    def __init__(self, home: Path, *, clock: Callable[[], int], given: str = "", told: Callable[[Signed], None] | None = None) -> None:
        self._path, self._clock, self._told = home / FILE, clock, told
        self._key = own_key(home / KEY, given)
        kept, _ = read(self._path)
        self._last = kept[-1].batch if kept else 0

    def keep(self, head: Head) -> bool:
        """Sign it, if it is news; on disk before anybody is told."""
        if head.batch <= self._last:
            return False
        signed = sign(head, self._clock(), self._key)
        with self._path.open("ab") as file:
            file.write(_separator(self._path) + msgspec.json.encode(signed) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._last = head.batch
        if self._told is not None:
            self._told(signed)
        return True


def read(path: Path) -> tuple[list[Signed], list[str]]:
    """The heads of a file, and what is wrong with it, in sentences. A last line that a kill cut off is no offence."""
    if not path.is_file():
        return [], []
    *lines, last = path.read_bytes().split(b"\n")
    found, wrong = [], []
    for number, line in enumerate((*lines, last), 1):
        try:
            if line:
                found.append(msgspec.json.decode(line, type=Signed))
        except (msgspec.DecodeError, UnicodeDecodeError):
            if number <= len(lines) and not _is_cut(line, lines[number:]):
                wrong.append(f"line {number} of {path.name} is no signed head")
    wrong += [f"head {one.head[:12]}… of batch {one.batch} in {path.name} is not signed by the key it names" for one in found
              if not is_genuine(one)]  # fmt: skip
    keys = {one.key for one in found}
    if len(keys) > 1:
        wrong.append(f"{path.name} holds heads of {len(keys)} keys: whose are they? {', '.join(sorted(key[:12] for key in keys))}")
    return found, wrong


def heads_of(signed: Iterable[Signed]) -> list[Head]:
    """What `verify` is to find in the chain."""
    return [one.plain for one in signed if is_genuine(one)]


def _said(head: Head, at: int, key: str) -> bytes:
    return f"headwater head\n{head.batch}\n{head.seq}\n{head.head}\n{at}\n{key}".encode()


def _separator(path: Path) -> bytes:
    """A line break, if a kill cut the last line off."""
    if not path.exists() or not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"


def _is_cut(line: bytes, later: list[bytes]) -> bool:
    """Whether the line is the beginning of one: what a kill left, after which another process went on."""
    return line.startswith(b'{"batch":') and not line.endswith(b"}") and bool(later)
