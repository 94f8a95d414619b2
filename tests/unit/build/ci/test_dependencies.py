"""Dependencies, from the metadata of what is installed here."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from modelyard.build.ci import dependencies
from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Severity, verdict
from modelyard.domain.errors import ConfigError


def declare(small: Path, ci: str, requirements: str = "") -> None:
    with (small / "modelyard.toml").open("a") as stream:
        stream.write(f"\n[ci]\n{ci}\n")
    if requirements:
        (small / "requirements.txt").write_text(requirements)


def test_a_denied_licence_fails_and_names_the_way_out(small: Path, context: Callable[..., Context]):
    declare(small, "deny_licences = ['BSD*']", "scikit-learn\n")
    outcome = dependencies.check(context())
    denied = {item.message.split()[0] for item in outcome.findings if item.rule == "licence-denied"}
    assert "scikit-learn" in denied
    assert verdict(outcome) == "failed"
    assert "allow_packages" in outcome.findings[0].remedy


def test_only_declared_packages_and_what_they_need_are_looked_at(small: Path, context: Callable[..., Context]):
    declare(small, "", "click>=8  # the command line\n-r other.txt\nno-such-package-here; python_version > '3'\n")
    outcome = dependencies.check(context())
    assert outcome.details["packages"] == 1
    assert [(item.rule, item.severity) for item in outcome.findings] == [("not-installed", Severity.WARNING)]


def test_a_named_bad_release_is_found_and_can_be_let_through(small: Path, context: Callable[..., Context]):
    declare(small, "known_bad = ['click>=1']", "click\n")
    outcome = dependencies.check(context())
    assert [item.rule for item in outcome.findings] == ["known-bad-release"]
    assert metadata.version("click") in outcome.findings[0].message
    text = (small / "modelyard.toml").read_text().replace("[ci]", "[ci]\nallow_packages = ['click']")
    (small / "modelyard.toml").write_text(text)
    assert dependencies.check(context()).findings == []


def test_a_wrong_entry_of_known_bad_names_the_key():
    with pytest.raises(ConfigError, match=r"ci\.known_bad"):
        dependencies.known_bad(["lib ~~ 1"])


def test_every_shipped_entry_says_why_and_where_from():
    for name, entries in dependencies.known_bad([]).items():
        for entry in entries:
            assert entry["why"] and entry["source"] and entry["versions"], name


@pytest.mark.parametrize(
    ("licence", "hit"),
    [
        ("AGPL-3.0-or-later", "AGPL*"),
        ("GNU Affero General Public License v3", "Affero"),
        ("MIT OR AGPL-3.0-only", None),
        ("MIT AND AGPL-3.0-only", "AGPL*"),
        ("Apache-2.0", None),
    ],
)
def test_of_alternatives_one_good_licence_is_enough(licence: str, hit: str | None):
    assert dependencies.denied_by(licence, ("AGPL*", "Affero")) == hit
