"""When certificates end."""

from datetime import UTC, datetime

import pytest
import trustme

from modelyard.kit import x509


@pytest.mark.parametrize("year", [2031, 2049, 2050, 2120])
def test_the_end_is_that_of_the_certificate(year: int) -> None:
    end = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)  # before 2050 years have two digits
    issued = trustme.CA().issue_cert("localhost", not_after=end)
    [certificate] = x509.certificates(issued.private_key_and_cert_chain_pem.bytes().decode())
    assert x509.ends_at(certificate) == int(end.timestamp() * 1000)


def test_what_is_no_certificate_is_said() -> None:
    with pytest.raises(ValueError, match="no certificate"):
        x509.ends_at("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
