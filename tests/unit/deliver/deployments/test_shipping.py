"""Segments on their way from a far machine to its hub: each arrives once and whole, whatever breaks off."""

from pathlib import Path

import pytest

from modelyard.deliver.deployments import arrivals, shipping
from modelyard.deliver.deployments.shipping import Segment, Shipper, Told
from modelyard.deliver.serving import ground_truth
from modelyard.deliver.serving.ground_truth import Label
from modelyard.domain.errors import Conflict, Invalid, NotFound, Unavailable
from modelyard.kit.hashing import sha256_hex

NAME = "1700000000000-aaaaaaaa"


class Hub:
    """The hub's side in this process; it can break off after so many pieces."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pieces, self.breaks_after = folder, 0, 1_000_000
        self.knows = True

    def arrived(self, segment: Segment) -> tuple[int, bool]:
        if not self.knows:
            raise NotFound("There is no such endpoint.")
        return arrivals.arrived(arrivals.folder_of(self.folder, segment.log, segment.name), segment.name)

    def send(self, segment: Segment, offset: int, size: int, digest: str, data: bytes) -> None:
        if self.pieces >= self.breaks_after:
            raise Unavailable("gone")
        self.pieces += 1
        folder = arrivals.folder_of(self.folder, segment.log, segment.name)
        arrivals.take(folder, segment.name, offset, size, digest, data)

    def send_labels(self, endpoint: str, labels: list[Label]) -> None:
        if self.pieces >= self.breaks_after:
            raise Unavailable("gone")
        self.pieces += 1
        ground_truth.append(self.folder / endpoint, labels)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


def segment(home: Path, content: bytes, name: str = NAME, shadow: bool = False) -> Path:
    folder = home / "predictions" / "production" / "m" / ("shadow" if shadow else "")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.segment"
    path.write_bytes(content)
    return path


def shipper(home: Path, hub: Hub, most: int = 1 << 30) -> Shipper:
    return Shipper(hub, home, "production", most)


def test_a_segment_arrives_as_it_was_and_is_forgotten_here(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipping, "PIECE_BYTES", 10)
    answers, shadows = segment(tmp_path, b"x" * 25), segment(tmp_path, b"shadow", shadow=True)
    shipper(tmp_path, hub).turn()
    assert (hub.folder / answers.name).read_bytes() == b"x" * 25
    assert (hub.folder / "shadow" / shadows.name).read_bytes() == b"shadow"
    assert not answers.exists() and not shadows.exists() and hub.pieces == 4
    assert shipper(tmp_path, hub).report() == {
        **{"sent": 2, "dropped": 0, "dropped_bytes": 0},
        **{"waiting": 0, "waiting_bytes": 0},
    }


def test_labels_follow_once_the_hub_is_back(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipping, "LABELS", 2)
    here = tmp_path / "predictions" / "production" / "m"
    ground_truth.append(here, [Label(str(number), number, 0) for number in range(5)])
    with (here / ground_truth.FILE).open("ab") as stream:
        stream.write(b'{"id": "torn')
    hub.breaks_after = 1
    with pytest.raises(Unavailable):
        shipper(tmp_path, hub).turn()
    ground_truth.append(here, [Label("0", 7.0, 1)])
    hub.breaks_after = 100
    shipper(tmp_path, hub).turn()
    expected = {"0": 7.0, "1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0}
    assert ground_truth.read(hub.folder / "m") == expected and ground_truth.read(here) == {}


def test_what_broke_off_is_taken_up_where_it_was(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipping, "PIECE_BYTES", 10)
    path = segment(tmp_path, bytes(range(45)))
    hub.breaks_after = 2
    with pytest.raises(Unavailable):
        shipper(tmp_path, hub).turn()
    assert path.exists() and list(hub.folder.glob("*.segment")) == []
    hub.breaks_after = 1_000
    shipper(tmp_path, hub).turn()
    assert (hub.folder / path.name).read_bytes() == bytes(range(45)) and hub.pieces == 5


@pytest.mark.parametrize("where", ["", "unread", "parquet/2023-11-14T22"])
def test_what_the_hub_has_is_not_sent_again(tmp_path: Path, hub: Hub, where: str):
    """Killed between the last piece and forgetting it here, or the hub's readers were faster."""
    path = segment(tmp_path, b"once")
    folder = hub.folder / where
    folder.mkdir(parents=True)
    (folder / f"{NAME}{'.parquet' if 'parquet' in where else '.segment'}").write_bytes(b"once")
    shipper(tmp_path, hub).turn()
    assert hub.pieces == 0 and not path.exists()


def test_the_spool_is_bounded_and_says_what_it_dropped(tmp_path: Path, hub: Hub):
    hub.breaks_after = 0
    kept = [segment(tmp_path, b"x" * 100, f"170000000000{number}-aaaaaaaa") for number in range(5)]
    with pytest.raises(Unavailable):
        shipper(tmp_path, hub, most=250).turn()
    assert [path.exists() for path in kept] == [False, False, False, True, True]
    assert shipper(tmp_path, hub).told() == Told(dropped=3, dropped_bytes=300)


def test_an_endpoint_that_the_hub_forgot_holds_up_no_other(tmp_path: Path, hub: Hub):
    path = segment(tmp_path, b"x")
    hub.knows = False
    shipper(tmp_path, hub).turn()
    assert path.exists()


def test_pieces_that_do_not_fit_are_refused(tmp_path: Path):
    digest = sha256_hex(b"abcdef")
    assert arrivals.take(tmp_path, NAME, 0, 6, digest, b"abc") == (3, False)
    with pytest.raises(Conflict, match="3 bytes are here"):
        arrivals.take(tmp_path, NAME, 5, 6, digest, b"f")
    with pytest.raises(Conflict, match="does not follow"):
        arrivals.take(tmp_path, NAME, 3, 6, digest, b"defg")
    assert arrivals.take(tmp_path, NAME, 0, 6, digest, b"abc") == (3, False)  # a repeated piece changes nothing
    with pytest.raises(Conflict, match="digest"):
        arrivals.take(tmp_path, NAME, 3, 6, digest, b"XXX")
    assert arrivals.arrived(tmp_path, NAME) == (0, False)
    arrivals.take(tmp_path, NAME, 0, 6, digest, b"abcdef")
    assert arrivals.take(tmp_path, NAME, 0, 6, digest, b"abcdef") == (0, True)
    for log, name in (("answers", "../../x"), ("elsewhere", NAME), ("answers", f"{NAME}.open")):
        with pytest.raises(Invalid, match="is no segment"):
            arrivals.folder_of(tmp_path, log, name)
