"""Whose certificates are trusted beside the system's: $MODELYARD_CA_CERTIFICATE, and this yard's server."""

import os
from typing import TYPE_CHECKING

from modelyard.domain.errors import ConfigError

if TYPE_CHECKING:
    from ssl import SSLContext

VARIABLE = "MODELYARD_CA_CERTIFICATE"
Mark = tuple[int, int] | None


def trust(certificate: str | None) -> None:
    """Trust a server's own certificate in this process and those that it starts, unless the variable is set."""
    if certificate:
        os.environ.setdefault(VARIABLE, certificate)


def mark() -> Mark:
    """What tells that other certificates are trusted by now; None where the variable names no file."""
    try:
        status = os.stat(os.environ.get(VARIABLE, ""))
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def context() -> "SSLContext":
    """For a connection to a server. Raises ConfigError for a file that holds no certificates."""
    import ssl  # late: a yard without TLS does not need it

    made = ssl.create_default_context()
    file = os.environ.get(VARIABLE)
    if file:
        try:
            made.load_verify_locations(file)
        except OSError as error:
            raise ConfigError(
                f"{VARIABLE}={file} cannot be used: {error.strerror or error}.", remedy="Name a PEM file."
            ) from error
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a server's own certificate vouches for itself
    return made
