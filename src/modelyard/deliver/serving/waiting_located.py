"""Asynchronous requests in the shape of SageMaker: inputs are objects of a store, or bodies; answers are objects."""

import re

import msgspec

from modelyard.deliver.serving.door import Headers
from modelyard.deliver.serving.errors import Refused
from modelyard.deliver.serving.routing import QueuePolicy
from modelyard.domain import locations

PREFIX = b"x-amzn-sagemaker-"
MOST_INLINE = 128_000
"""Bytes of an input that is the request's body."""
FILENAME = re.compile(r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9._-]{0,31}")
EXTENSION = re.compile(r"[a-zA-Z0-9!_.*'()/-]{1,512}")
INFERENCE_ID = re.compile(r"[\x21-\x7e]{1,64}")
RENAMED = {b"content-type": b"content-type", b"accept": b"accept"}
"""Of the prediction, by what they are called after PREFIX."""
ERRORS = {400: "ValidationError", 413: "ValidationError", 429: "ServiceUnavailable", 503: "ServiceUnavailable"}


class Located(msgspec.Struct, frozen=True):
    """`input`: empty where it came along; `gives_up_ms`: how long after its acceptance a request is still begun."""

    input: str
    output: str
    failure: str
    gives_up_ms: int
    timeout_s: float


def locate(policy: QueuePolicy, identity: str, headers: Headers, body: bytes) -> Located:
    """Where a request's input is and its answer goes. Raises Refused (400) that says what is wrong."""
    source = _text(headers, b"inputlocation")
    if not policy.outputs:
        raise Refused(400, "This endpoint's answers have no place in an object store: see its queue's `outputs`.")
    if bool(source) == bool(body):
        raise Refused(400, "Send InputLocation, or Body: one of them.")
    if source and not policy.may_read(source):
        places = " or ".join(policy.inputs) or "none"
        raise Refused(400, f"InputLocation {source[:200]!r} is not below a place that is read here: {places}.")
    ttl = _seconds(headers, b"requestttlseconds", 60, 21_600, policy.keep_s)
    timeout = _seconds(headers, b"invocationtimeoutseconds", 1, 3600, policy.timeout_s)
    base = policy.outputs + _extension(headers)
    name = _matching(headers, b"filename", FILENAME) or f"{identity}.out"
    failed = f"{name.removesuffix('.out')}-error.out"
    return Located(source, base + name, base + failed, int(ttl * 1000), min(timeout, policy.timeout_s))


def inference_id(headers: Headers, identity: str) -> str:
    """The caller's name of the prediction, or its own. Raises Refused (400)."""
    return _matching(headers, b"inference-id", INFERENCE_ID) or identity


def asking(headers: Headers, inference_id: str) -> Headers:
    """The headers of the prediction that such a request asks for."""
    plain = {name: value for name, value in headers.items() if name not in RENAMED and not name.startswith(PREFIX)}
    named = {name: headers[PREFIX + told] for told, name in RENAMED.items() if PREFIX + told in headers}
    return {**plain, **named, PREFIX + b"inference-id": inference_id.encode()}


def _text(headers: Headers, name: bytes) -> str:
    """A header's text: clients send it as UTF-8 or as Latin-1."""
    value = headers.get(PREFIX + name, b"")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _seconds(headers: Headers, name: bytes, least: int, most: int, otherwise: float) -> float:
    text = _text(headers, name)
    if not text:
        return otherwise
    if not text.isdigit() or len(text) > 6 or not least <= int(text) <= most:
        raise Refused(400, f"{(PREFIX + name).decode()} is a number of seconds from {least} to {most}.")
    return float(text)


def _matching(headers: Headers, name: bytes, pattern: re.Pattern[str]) -> str:
    text = _text(headers, name)
    if text and not pattern.fullmatch(text):
        raise Refused(400, f"{(PREFIX + name).decode()} does not match {pattern.pattern}.")
    return text


def _extension(headers: Headers) -> str:
    """The folders below the endpoint's own, with a slash at their end."""
    text = _matching(headers, b"s3outputpathextension", EXTENSION).strip("/")
    if text and locations.split(f"s3://bucket/{text}") is None:
        raise Refused(400, "S3OutputPathExtension may hold no '..' and no empty folder.")
    return f"{text}/" if text else ""
