"""Certificates in PEM text: each alone, and when it ends. As much of X.509 as that takes (RFC 5280, 4.1)."""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
VERSION, UTC_TIME = 0xA0, 0x17


def certificates(pem: str) -> list[str]:
    """The certificates of a PEM text in its order, without keys and whatever else it holds."""
    return CERTIFICATE.findall(pem)


def ends_at(certificate: str) -> int:
    """When one certificate ends, in milliseconds since the epoch. Raises ValueError for what is none."""
    try:
        whole = next(_elements(ssl.PEM_cert_to_DER_cert(certificate)))[1]
        signed = next(_elements(whole))[1]
        fields = [content for tag, content in _elements(signed) if tag != VERSION]
        validity = fields[3]  # after serial number, algorithm and issuer
        _, (tag, text) = _elements(validity)
        time = datetime.strptime(text.decode(), "%y%m%d%H%M%SZ" if tag == UTC_TIME else "%Y%m%d%H%M%SZ")
    except (IndexError, StopIteration, ValueError) as error:
        raise ValueError(f"no certificate that can be read: {error}") from error
    return int(time.replace(tzinfo=UTC).timestamp() * 1000)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element that stands in DER, one after another."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            following = length & 0x7F
            length, at = int.from_bytes(der[at : at + following]), at + following
        yield tag, der[at : at + length]
        at += length
