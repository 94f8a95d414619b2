"""boto3's SageMaker runtime, pointed at a gateway."""

from typing import Any


def sagemaker_runtime(url: str, token: str) -> Any:
    """A stock client that asks once; the token is its session's."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )
