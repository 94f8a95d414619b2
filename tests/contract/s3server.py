"""A real S3 API server on loopback: moto's, in a process of its own."""

import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import wait_until
from tests.ports import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass
class S3Server:
    url: str
    process: "subprocess.Popen[bytes]"
    buckets: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def new_bucket(self) -> str:
        self.buckets += 1
        name = f"yard-{self.buckets}"
        self._client().create_bucket(Bucket=name)
        return name

    def delete_bucket(self, name: str) -> None:
        self._client().delete_bucket(Bucket=name)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self._client().put_object(Bucket=bucket, Key=key, Body=body)

    def get(self, bucket: str, key: str) -> dict[str, Any]:
        return self._client().get_object(Bucket=bucket, Key=key)

    def keys(self, bucket: str) -> list[str]:
        return [item["Key"] for item in self._client().list_objects_v2(Bucket=bucket).get("Contents", [])]

    def head(self, bucket: str, key: str) -> dict[str, Any]:
        return self._client().head_object(Bucket=bucket, Key=key)

    def _client(self) -> Any:
        import boto3

        names = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, **names)


def start_s3(folder: Path) -> S3Server:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "s3.log").open("ab") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the S3 server ended: {(folder / 's3.log').read_text()}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return True
        except OSError:
            return False

    wait_until(answers, "the S3 server")
    return S3Server(url, process)
