"""Which cluster a run uses, and what can be known to be wrong with it before a second is spent."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec

from sfm.errors import BadOption

LOCAL, OFF = "local", "off"
_VARIABLE = "RAY_ADDRESS"
_TIMEOUT_S = 5.0
INSTALL = "pip install 'loftr-sfm[ray]'"


def address_of(option: str | None) -> str | None:
    """`local`, an address, or None for no cluster: the option's, else that of RAY_ADDRESS.

    Raises BadOption for an address that is none, or cannot be reached, and where Ray is not installed.
    """
    address, name = (os.environ.get(_VARIABLE), _VARIABLE) if option is None else (option, "--cluster")
    if address is None or address.strip() in ("", OFF):
        return None
    address = address.strip()
    if find_spec("ray") is None:
        raise BadOption(f"{name} {address}: needs Ray: {INSTALL}{'' if option else ', or give --cluster off'}")
    if address.startswith("ray://"):
        raise BadOption(
            f"{name} {address}: a run needs a node of the cluster on its own machine: start it there, or join with "
            "ray start, and give HOST:PORT (docs/cluster.md)"
        )
    if address not in (LOCAL, "auto"):
        _check_reachable(address, f"{name} {address}")
    return address


def _check_reachable(address: str, named: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadOption(f"{named}: is no address; give HOST:PORT as `ray start --head` prints it, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S).close()
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise BadOption(f"{named}: cannot be reached ({reason}); is the head node up? (ray status)") from None
