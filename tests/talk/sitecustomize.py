"""Python reads this when it starts, if the folder is on PYTHONPATH: who wants to leave the machine?

Each address that is not of this machine goes to the file $TALK_LOG, with the lines of code that
asked for it. Programs that are not Python are seen by `sealed` alone.
"""

import ipaddress
import os
import sys
import traceback

_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
           "socket.gethostbyname")  # fmt: skip
_LOG = os.environ.get("TALK_LOG")


def _away(host: object) -> bool:
    """Whether a host is another machine, or a name that would be looked up elsewhere."""
    text = host.decode(errors="replace") if isinstance(host, bytes) else host
    if not isinstance(text, str) or text in ("", "localhost"):
        return False
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _EVENTS:
        return
    host = arguments[0]
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a socket in the file system
            return
        host = address[0]
    if _away(host):
        stack = "".join(traceback.format_stack(limit=25)[:-1])
        with open(str(_LOG), "a", encoding="utf-8") as log:  # noqa: PTH123 - as light as can be
            log.write(f"{event} {host!r} by {sys.argv}\n{stack}\n")


if _LOG:
    sys.addaudithook(_listen)
