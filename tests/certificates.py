"""Certificates for tests: of an authority of its own, for this machine."""

from pathlib import Path

import trustme


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, key), PEM files; `ca.pem` beside them is who signed it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = folder / "server.pem", folder / "server.key"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return certificate, key
