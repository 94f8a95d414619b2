"""Versions under any sequence of operations: numbers used once, content as written, legal states, a whole chain."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from modelyard.domain.errors import ModelyardError
from modelyard.domain.permissions import SYSTEM
from modelyard.domain.states import TRANSITIONS, VersionState
from modelyard.events import audit
from modelyard.registry import models, versions
from modelyard.store.database import Store


class Versions(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'yard.db'}")
        self.store.write_now(lambda conn: models.create(conn, "m", actor="ana"))
        self.digests: dict[int, str] = {}
        self.gone: set[int] = set()
        self.states: dict[tuple[int, str], VersionState] = {}
        self.aliases: dict[str, int] = {}

    @rule(target=held, content=st.binary(min_size=1, max_size=4))
    def register(self, content: bytes) -> int:
        file = versions.ManifestFile("f", (content.hex() * 32)[:64].ljust(64, "0"), len(content))
        made = self.store.write_now(
            lambda conn: versions.register(conn, "m", [file], actor=SYSTEM, source="models:/m-1")
        )
        assert made.version not in self.digests and made.version not in self.gone
        self.digests[made.version] = made.digest
        return made.version

    @rule(number=held, environment=st.sampled_from(["staging", "production"]), after=st.sampled_from(VersionState))
    def move(self, number: int, environment: str, after: VersionState) -> None:
        before = self.states.get((number, environment), VersionState.CANDIDATE)
        legal = after is before or after in TRANSITIONS[VersionState][before]
        try:
            self.store.write_now(lambda conn: versions.set_state(conn, "m", number, environment, after))
            assert legal
            self.states[number, environment] = after
        except ModelyardError:
            assert not legal

    @rule(number=held, alias=st.sampled_from(["champion", "challenger"]))
    def point(self, number: int, alias: str) -> None:
        self.store.write_now(lambda conn: versions.set_alias(conn, "m", alias, number, actor="ana"))
        self.aliases[alias] = number

    @rule(number=held, text=st.text(max_size=20))
    def describe(self, number: int, text: str) -> None:
        self.store.write_now(lambda conn: versions.change(conn, "m", number, actor="ana", description=text))

    @rule(number=consumes(held))
    def remove(self, number: int) -> None:
        approved = any(key[0] == number and state is VersionState.APPROVED for key, state in self.states.items())
        try:
            self.store.write_now(lambda conn: versions.remove(conn, "m", number, actor="ana"))
            assert not approved
        except ModelyardError:
            assert approved
            return
        self.gone.add(number)
        del self.digests[number]
        self.aliases = {alias: held for alias, held in self.aliases.items() if held != number}
        self.states = {key: state for key, state in self.states.items() if key[0] != number}

    @invariant()
    def all_is_as_it_was_written(self) -> None:
        found = self.store.read_now(lambda conn: versions.of_model(conn, "m"))
        assert {item.version: item.digest for item in found} == self.digests
        assert self.store.read_now(lambda conn: versions.aliases_of(conn, "m")) == self.aliases
        states = {(item.version, where): state for item in found for where, state in item.states}
        assert states == {key: str(state) for key, state in self.states.items() if key in states}
        moved = {key for key, state in self.states.items() if state is not VersionState.CANDIDATE}
        assert moved <= states.keys()

    def teardown(self) -> None:
        assert self.store.read_now(audit.verify).intact
        self.store.close()
        self.folder.cleanup()


TestVersions = Versions.TestCase
TestVersions.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
