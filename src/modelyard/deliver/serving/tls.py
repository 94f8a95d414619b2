"""The files of a server's TLS: its certificate and key, and whose callers it takes."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from modelyard.domain.environments import Tls
from modelyard.domain.errors import ConfigError

LOCKED = b"ENCRYPTED"
"""In the first or second line of a PEM key that needs a pass phrase."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files; `key` may be in the certificate's. With a `client_ca` callers must show a certificate it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @staticmethod
    def declared(folder: Path, tls: Tls) -> "TlsFiles":
        """As a project in `folder` declares them: relative to it, unless absolute."""
        client_ca = folder / tls.client_ca if tls.client_ca else None
        return TlsFiles(folder / tls.certificate, folder / (tls.key or tls.certificate), client_ca)

    @property
    def every(self) -> list[Path]:
        return [self.certificate, self.key, *([self.client_ca] if self.client_ca is not None else [])]

    def context(self, where: str) -> ssl.SSLContext:
        """A server's context. Raises ConfigError that names the file which is missing, is no PEM, or does not fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, lambda: "")  # else it asks the terminal
            if self.client_ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self.client_ca)
        except OSError as error:  # an SSLError is one
            raise ConfigError(
                f"{where}: {self._found(error)}.", remedy="Name PEM files: a certificate chain and its key."
            ) from error
        return context

    def _found(self, error: OSError) -> str:
        for file in self.every:
            try:
                content = file.read_bytes()
            except OSError as unread:
                return f"{file} cannot be read ({unread.strerror})"
            if file == self.key and LOCKED in content:
                return f"{file} needs a pass phrase, which nobody is there to give"
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            return f"{self.key} is not the key of {self.certificate}"
        return f"{' or '.join(dict.fromkeys(map(str, self.every)))} is no PEM file of its kind ({error})"

    def arguments(self) -> list[str]:
        """As the gateway's command takes them."""
        given = ["--tls-certificate", str(self.certificate), "--tls-key", str(self.key)]
        return given + (["--client-ca", str(self.client_ca)] if self.client_ca else [])
