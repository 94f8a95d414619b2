"""`[models.<name>.serving]`: what is taken, what is refused and with which words."""

import pytest

from modelyard.domain.errors import ConfigError
from modelyard.domain.project import parse_project

HEAD = '[project]\nname = "p"\n[models.m]\ntask = "binary"\n[models.m.serving]\n'


def test_the_policy_of_a_model():
    text = HEAD + 'workers = 2\nmemory_mb = 512\ntimeout = "500ms"\n[models.m.serving.log]\nredact = ["name"]\n'
    serving = parse_project(text + 'sample = 0.1\ncapture = "durable"\n').models["m"].serving
    assert (serving.workers, serving.memory_mb, serving.timeout) == (2, 512, "500ms")
    assert (serving.log.redact, serving.log.sample, serving.log.capture) == (("name",), 0.1, "durable")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('timeout = "soon"', r"models\.m\.serving\.timeout: 'soon' is not a duration"),
        ('timeout = "0s"', r"models\.m\.serving\.timeout is 0s"),
        ("workers = 0", "workers"),
        ("worker = 2", "worker"),
        ("[models.m.serving.log]\nsample = 2", "sample"),
        ('[models.m.serving.log]\ncapture = "always"', "capture"),
        ('preview = { header = "x preview", value = "1" }', "preview.header 'x preview' is no header's name"),
        (
            'preview = { header = "Authorization", value = "1" }',
            "preview.header 'Authorization' has a meaning already",
        ),
        ('preview = { header = "x-preview", value = "" }', "preview.value '' fits in no header"),
        ('preview = { header = "x-preview" }', "value"),
        ("scale = { min = 3, max = 2 }", r"models\.m\.serving\.scale\.min is 3, above max, 2"),
        ('scale = { idle = "long" }', r"scale\.idle: 'long' is not a duration"),
        ("scale = { most = 2 }", "most"),
        ("workers = 2\nscale = { max = 2 }", "has both workers and scale"),
    ],
)
def test_what_is_wrong_is_named(line: str, says: str):
    with pytest.raises(ConfigError, match=says):
        parse_project(HEAD + line + "\n")
