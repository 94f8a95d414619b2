"""Whether Apprise knows the addresses that channels have. In a process of its own, since it loads a hundred services.

python -m modelyard.deliver.monitoring.addresses < [[ADDRESS, WHOLE], ...]
"""

import difflib
import json
import re
import subprocess
import sys

from modelyard.deliver.monitoring.notifications import VARIABLE, expand
from modelyard.domain.errors import ConfigError
from modelyard.domain.project import Notify, Project

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
WEBHOOK = ("http", "https")


def check(project: Project, file: str) -> None:
    """Raise ConfigError for a channel that could send nothing. It names the address's scheme, and no more of it.

    Of an address with a variable that is not set here only the scheme is looked at, if it is written out.
    """
    addresses = {name: _written(declared) for name, declared in project.notify.items()}
    for name, (address, _) in addresses.items():
        where, scheme = f"{file}: notify.{name}.url", scheme_of(address)
        if address and not scheme:
            raise ConfigError(f"{where} is no address.", remedy="Write one like 'mailto://...' or 'slack://...'.")
        if address and project.notify[name].secret is not None and scheme not in WEBHOOK:
            raise ConfigError(f"{where} is no webhook's, but {scheme}://.", remedy="Write 'https://...'.")
    asked = [name for name, (address, _) in addresses.items() if address and project.notify[name].secret is None]
    if not asked:
        return
    command = [sys.executable, "-m", "modelyard.deliver.monitoring.addresses"]
    listed = json.dumps([addresses[name] for name in asked])
    told = subprocess.run(command, input=listed, capture_output=True, text=True, check=False)
    problems = json.loads(told.stdout) if told.returncode == 0 else [None] * len(asked)  # sending will tell
    for name, problem in zip(asked, problems, strict=True):
        if problem:
            raise ConfigError(f"{file}: notify.{name}.url: {problem[0]}", remedy=problem[1])


def _written(declared: Notify) -> tuple[str, bool]:
    """(the address as far as it is known here, whether that is the whole)."""
    try:
        return expand(declared.url), True
    except ConfigError:
        return VARIABLE.split(declared.url)[0] if SCHEME.match(declared.url) else "", False


def scheme_of(address: str) -> str:
    """In small letters; empty for what is no address."""
    found = SCHEME.match(address.strip())
    return found[1].lower() if found else ""


def problem_with(address: str, whole: bool) -> tuple[str, str] | None:
    """(what is wrong with an address, what to do); None for one that Apprise takes."""
    import apprise  # late: only the process of this module needs it
    from apprise.manager_plugins import NotificationManager

    scheme, known = scheme_of(address), NotificationManager().schemas()
    if whole and apprise.Apprise().add(address):
        return None
    if scheme in known:
        said = f"Apprise cannot make anything of this {scheme}:// address."
        return (said, f"See what Apprise's documentation says of {scheme}://.") if whole else None
    if scheme in WEBHOOK:
        return (
            f"Apprise knows no service of this {scheme}:// address.",
            "Give the channel a secret, for a webhook of signed CloudEvents; or write 'jsons://host/path'.",
        )
    close = difflib.get_close_matches(scheme, known, n=1)
    hint = f"Did you mean {close[0]}://? " if close else ""
    return f"Apprise knows no service {scheme}://.", f"{hint}See the services in Apprise's documentation."


if __name__ == "__main__":
    print(json.dumps([problem_with(*asked) for asked in json.load(sys.stdin)]))
