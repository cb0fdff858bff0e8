"""The little of the web that the steps need: short time-outs, no surprises.

A machine without network has to find that out in seconds, so every download is preceded
by `reachable`. Proxies are taken from the environment, as `urllib` does. With VITRAIL_OFFLINE
set nothing is asked at all.
"""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.parse import urlsplit

from vitrail import outside
from vitrail.errors import VitrailError

_CHUNK = 1 << 18


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only where the scheme stays the same."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != urlsplit(req.full_url).scheme:
            raise urllib.error.URLError(f"it redirects to another scheme ({newurl[:60]})")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, seconds: float, method: str = "GET") -> IO[bytes]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise urllib.error.URLError("only http and https are used")
    opener = urllib.request.build_opener(_SameScheme)
    # The scheme was looked at just above.
    request = urllib.request.Request(  # noqa: S310
        url, method=method, headers={"User-Agent": "vitrail"}
    )
    answer: IO[bytes] = opener.open(request, timeout=seconds)
    return answer


def _why(error: Exception) -> str:
    """The reason in an exception of `urllib`, without error numbers."""
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason)


def reachable(urls: Iterable[str], seconds: float = 4.0) -> dict[str, str | None]:
    """Ask all servers at once for the head of a page each.

    Args:
        urls: one page for each server.
        seconds: for everything together, looking up names included.

    Returns:
        For each url None when a server answered, whatever it said; otherwise the reason.
    """
    if outside.offline():
        return dict.fromkeys(urls, f"{outside.OFFLINE} is set")
    answers: dict[str, str | None] = dict.fromkeys(urls, f"no answer within {seconds:g} s")

    def ask(url: str) -> None:
        try:
            _open(url, seconds, method="HEAD").close()
            answers[url] = None
        except urllib.error.HTTPError:
            answers[url] = None  # an answer; what is wrong will show when the file is read
        except (OSError, HTTPException, ValueError) as error:
            answers[url] = _why(error)

    # Daemon threads: looking up a name cannot be interrupted, and must not delay the exit.
    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in list(answers)]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)


def read(url: str, limit: int, silence: float = 10.0, seconds: float = 300.0) -> bytes:
    """The content of a page.

    Args:
        url: an http or https address.
        limit: bytes; a longer answer is refused.
        silence: seconds without a byte after which the server is given up.
        seconds: for the whole page.

    Raises:
        VitrailError: with the reason as a sentence that names the address.
    """
    if outside.offline():
        raise VitrailError(f"{url} is not asked: {outside.OFFLINE} is set")
    deadline = time.monotonic() + seconds
    parts, size = [], 0
    try:
        with _open(url, silence) as stream:
            while part := stream.read(_CHUNK):
                size += len(part)
                if size > limit:
                    raise VitrailError(f"{url} is larger than the {limit:,} bytes expected at most")
                if time.monotonic() > deadline:
                    raise VitrailError(f"{url} is too slow: {size:,} bytes in {seconds:g} s")
                parts.append(part)
    except (OSError, HTTPException, ValueError) as error:
        raise VitrailError(f"{url} cannot be read: {_why(error)}") from error
    return b"".join(parts)
