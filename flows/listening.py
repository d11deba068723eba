"""The HTTP door's place: taken before anything else starts, so that one that is taken already is told at once."""

import errno
import socket

from headwater.lineage.errors import Misused, Unavailable

ADDRESS = "set HEADWATER_HTTP__HOST to an address of this machine"


def listening(host: str, port: int) -> socket.socket:
    """A socket at this address that nobody can connect to yet; port 0: any free one.

    Raises Unavailable where somebody else has the port, Misused for an address that this machine or this user cannot have.
    """
    try:
        known = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise Misused(f"cannot listen on {host}:{port}: no such host ({error}); {ADDRESS}") from None
    family, kind, protocol, _, address = min(known, key=lambda one: one[0] != socket.AF_INET)  # of `localhost` what most clients try first
    place = socket.socket(family, kind, protocol)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a door that has just closed may be opened again
        place.bind(address)
    except OSError as error:
        place.close()
        raise _refused(host, port, error) from None
    return place


def _refused(host: str, port: int, error: OSError) -> Misused | Unavailable:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"port {port} of {host} is taken by another process; stop that one, or set HEADWATER_HTTP__PORT to another (0: any free one)"
        )
    told = error.strerror or str(error)
    remedy = "set HEADWATER_HTTP__PORT above 1023" if error.errno == errno.EACCES else ADDRESS
    return Misused(f"cannot listen on {host}:{port}: {told}; {remedy}")
