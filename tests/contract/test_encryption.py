"""What is encrypted by others at our word: a bucket's objects, and the way to PostgreSQL."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from modelyard.domain.errors import ConfigError
from modelyard.store.database import Store
from modelyard.store.objects.s3 import S3Objects
from tests.certificates import make_certificate
from tests.contract.postgres import Cluster, running_cluster
from tests.contract.s3server import S3Server


@pytest.mark.parametrize(("named", "key"), [("AES256", None), ("aws:kms", "yard-key")])
def test_s3_encrypts_what_is_stored(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, key: str | None
) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", named)
    if key:
        monkeypatch.setenv("AWS_SSE_KMS_KEY_ID", key)
    bucket = s3.new_bucket()
    objects = S3Objects(bucket, "yard", tmp_path / "incoming")
    blob = objects.put_chunks([b"weights"])
    assert b"".join(objects.read(blob.digest)) == b"weights"
    large = objects.put_chunks(bytes([n]) * (5 << 20) for n in range(3))
    objects.discard(large.digest)
    for name in s3.keys(bucket):
        held = s3.head(bucket, name)
        assert held["ServerSideEncryption"] == named and (key is None or key in held["SSEKMSKeyId"])


@pytest.fixture(scope="module")
def encrypted() -> Iterator[tuple[Cluster, Path]]:
    """A PostgreSQL server that takes encrypted connections only, and its certificate."""
    with running_cluster() as cluster:
        data = cluster.folder / "data"
        made = make_certificate(cluster.folder)
        for file, name in zip(made, ("server.crt", "server.key"), strict=True):
            shutil.copy2(file, data / name)
            shutil.chown(data / name, *[data.owner()] * 2)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        cluster.stop()
        (data / "postgresql.auto.conf").write_text("ssl = on\n")
        cluster.start()
        yield cluster, cluster.folder / "ca.pem"


def test_postgresql_over_tls_with_its_certificate_checked(encrypted: tuple[Cluster, Path]) -> None:
    cluster, certificate = encrypted
    url = cluster.new_database()
    store = Store(f"{url}?sslmode=verify-full&sslrootcert={certificate}")
    try:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert store.read_now(lambda conn: conn.exec_driver_sql(query).scalar()) is True
    finally:
        store.close()
    with pytest.raises(ConfigError, match="cannot be used"):
        Store(f"{url}?sslmode=disable")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"{url}?sslmode=disable")
