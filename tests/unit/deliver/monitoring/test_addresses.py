"""Addresses of channels are looked at when modelyard.toml is read; what is said of them keeps their secrets."""

import pytest

from modelyard.deliver.monitoring import addresses
from modelyard.domain.errors import ConfigError
from modelyard.domain.project import parse_project


def check(*channels: str) -> None:
    tables = [f"[notify.c{number}]\n{lines}" for number, lines in enumerate(channels)]
    addresses.check(parse_project('[project]\nname = "x"\n' + "\n".join(tables)), "modelyard.toml")


def test_what_apprise_or_a_webhook_takes_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_NOTIFY_URL", "json://127.0.0.1/")
    monkeypatch.delenv("NOWHERE", raising=False)
    check(
        'url = "json://user:hunter2@127.0.0.1/"',
        'url = "${TEAM_NOTIFY_URL}"',
        'url = "slack://${NOWHERE}"',
        'url = "${NOWHERE}"',
        'url = "https://example.com/hook"\nsecret = "s3"',
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = "slak://hunter2/x/y"', "notify.c1.url: Apprise knows no service slak://. Did you mean slack://?"),
        ('url = "slak://${NOWHERE}"', "Apprise knows no service slak://."),
        ('url = "${SECRET}"', "Apprise knows no service slak://."),
        ('url = "slack://hunter2"', "Apprise cannot make anything of this slack:// address."),
        ('url = "https://example.com/hunter2"', "Give the channel a secret"),
        ('url = "hunter2@example.com"', "notify.c1.url is no address. Write one like 'mailto://...'"),
        ('url = "slack://hunter2"\nsecret = "hunter2"', "notify.c1.url is no webhook's, but slack://."),
    ],
)
def test_what_could_send_nothing_is_named_by_its_scheme(
    lines: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "slak://hunter2/x/y")
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ConfigError) as refused:
        check('url = "json://127.0.0.1/"', lines)
    assert said in str(refused.value) and "hunter2" not in str(refused.value)
