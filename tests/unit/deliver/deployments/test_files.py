"""The data plane's files are replaced when their content differs, and only then."""

from pathlib import Path

from modelyard.deliver.deployments.files import write_if_changed


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    """Each writing makes the gateway begin its split anew: a small share would starve."""
    file = tmp_path / "routing.json"
    content = {"log": {"redact": ()}, "weight": 1.0}
    assert write_if_changed(file, content)
    before = file.read_bytes()
    assert not write_if_changed(file, content) and file.read_bytes() == before
    assert write_if_changed(file, {**content, "weight": 0.5}) and b'"revision":2' in file.read_bytes()
