"""What every request must pass before its route: the host it names, where it comes from, who sends it."""

import base64
import binascii
import ipaddress
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from modelyard.domain.errors import Forbidden, Unauthenticated
from modelyard.domain.permissions import Principal
from modelyard.governance import tokens
from modelyard.kit.hashing import sha256_hex
from modelyard.store.database import Store

COOKIE = "modelyard_session"
CACHE_S = 2.0
"""How long a token's principal is remembered: the longest that another server's revocation takes to hold here."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def host_name(value: str) -> str:
    """The name or address in a Host header, without its port; empty when it is not well formed."""
    if value.startswith("["):
        inside, closing, port = value[1:].partition("]")
        well_formed = closing and (not port or (port[0] == ":" and port[1:].isdigit()))
        try:
            return str(ipaddress.IPv6Address(inside)) if well_formed else ""
        except ValueError:
            return ""
    name, colon, port = value.partition(":")
    if colon and not port.isdigit():
        return ""
    return name.lower()


def check_origin(method: str, headers: Mapping[str, str], allowed: frozenset[str]) -> None:
    """Refuse foreign hosts (DNS rebinding) and requests that another site makes a browser send.

    Raises Forbidden. Another port of the same machine is another site. Following a link to a page (a navigation by
    GET) is allowed from anywhere; it changes nothing.
    """
    host = headers.get("host", "")
    if host_name(host) not in allowed:
        raise Forbidden(
            "The Host header names a host that this server does not answer for.",
            remedy="Start the server with --allow-host NAME.",
        )
    site = headers.get("sec-fetch-site")
    navigation = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
    if site not in (None, "same-origin", "none") and not navigation:
        raise Forbidden("The request comes from another site.", remedy="Use the console's own pages or an API token.")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host and not navigation:
        raise Forbidden(
            "The Origin header names another site.", remedy="Use the console's own pages or an API token."
        )


def secret_in(headers: Mapping[str, str]) -> str | None:
    """The token that a request carries: Bearer, the password of Basic, or the console's cookie."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def token_digest(headers: Mapping[str, str]) -> str | None:
    secret = secret_in(headers)
    return sha256_hex(secret.encode()) if secret else None


class Authenticator:
    """Principals of tokens, remembered for CACHE_S seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[float, Principal]] = {}

    def remembered(self, digest: str) -> Principal | None:
        """Whose token has this digest, if that was asked a moment ago."""
        known = self._known.get(digest)
        return known[1] if known and known[0] > time.monotonic() else None

    async def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who sends the request. Raises Unauthenticated."""
        digest = token_digest(headers)
        if digest is None:
            raise Unauthenticated(
                "This request carries no token.",
                remedy="Send 'Authorization: Bearer TOKEN' or sign in to the console.",
            )
        known = self.remembered(digest)
        if known is not None:
            return known
        found = await self._store.read_brief(lambda conn: tokens.principal_of(conn, digest))
        if found is None:
            self._known.pop(digest, None)
            raise Unauthenticated(
                "The token is unknown, expired or revoked.", remedy="Ask for a new one: modelyard token create"
            )
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[digest] = (time.monotonic() + CACHE_S, found)
        return found

    def forget(self) -> None:
        """Ask the database again for every token (after a revocation or a change of roles)."""
        self._known.clear()
