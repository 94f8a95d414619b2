"""Where a webhook may go: never a link-local address; to this machine only by the administrator's word."""

import ipaddress
import os
import socket
from urllib.parse import SplitResult, urlsplit

from modelyard.domain.errors import Invalid, Unavailable

LOOPBACK = "MODELYARD_WEBHOOK_LOOPBACK"
"""Set to 1 in the server's environment, it lets webhooks go to this machine."""
METADATA = ipaddress.ip_address("fd00:ec2::254")


def check_url(url: str) -> SplitResult:
    """The parts of a URL. Raises Invalid for another scheme, a credential in it, or a forbidden address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid(f"{url[:200]!r} is not a URL.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Invalid(f"{url[:200]!r} is not an http or https URL.", remedy="Write https://host/path.")
    if parts.username or parts.password:
        raise Invalid("A webhook's URL holds no user and password.", remedy="Deliveries are signed with its secret.")
    try:
        check_address(ipaddress.ip_address(parts.hostname))
    except ValueError:
        if parts.hostname == "localhost" or parts.hostname.endswith(".localhost"):
            check_address(ipaddress.ip_address("127.0.0.1"))
    return parts


def resolved(host: str, port: int) -> str:
    """The address to connect to: every address of the name is checked, so that none leads elsewhere.

    Raises Unavailable when the name has none, Invalid when one is not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"{host} cannot be resolved: {error.strerror or error}.") from error
    addresses = [str(item[4][0]) for item in found]
    for address in addresses:
        check_address(ipaddress.ip_address(address.partition("%")[0]))
    return addresses[0]


def check_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Raise Invalid for an address that no webhook goes to."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        if os.environ.get(LOOPBACK) != "1":
            raise Invalid(
                f"Webhooks do not go to this machine ({address}).",
                remedy=f"The administrator allows it by {LOOPBACK}=1 in the server's environment.",
            )
        return
    if address.is_link_local or address.is_multicast or address.is_unspecified or address == METADATA:
        raise Invalid(f"Webhooks do not go to {address}.", remedy="Name an address of a service.")
    if address.is_reserved:
        raise Invalid(f"Webhooks do not go to the reserved address {address}.")
