"""The files of a gateway's TLS: its certificate and key, and whose callers it takes."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from modelyard.domain.environments import Tls
from modelyard.domain.errors import ConfigError


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

    def check(self, where: str) -> None:
        """Raise ConfigError that names the file which is missing, is no PEM, or does not fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except OSError as error:  # an SSLError is one
            missing = next((file for file in (self.certificate, self.key, self.client_ca) if not _there(file)), None)
            found = f"{missing} cannot be read" if missing else f"{self.certificate}: {error}"
            raise ConfigError(
                f"{where}: {found}.", remedy="Name PEM files: a certificate chain and its key."
            ) from error

    def arguments(self) -> list[str]:
        """As the gateway's command takes them."""
        given = ["--tls-certificate", str(self.certificate), "--tls-key", str(self.key)]
        return given + (["--client-ca", str(self.client_ca)] if self.client_ca else [])


def _there(file: Path | None) -> bool:
    return file is None or file.is_file()
