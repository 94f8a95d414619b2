"""Results by key, outputs by content; never a key without its outputs."""

import multiprocessing
import resource
import signal
import threading
from pathlib import Path

import pytest

from modelyard.build.pipelines.cache import Cache, Result, container, large_in
from modelyard.domain.errors import Invalid, Unavailable

LONG = "text" * 5000
"""A value of its own file; short ones are carried in the step's record."""


def test_a_result_is_found_with_its_outputs(tmp_path: Path):
    cache = Cache(tmp_path)
    outputs = (cache.save([1, 2]), cache.save("text"))
    cache.put("k" * 64, "fit", Result(outputs, {"auc": 0.7}, {"rows": "5"}, 1.5))
    held = Cache(tmp_path).find("k" * 64)
    assert held == Result(outputs, {"auc": 0.7}, {"rows": "5"}, 1.5)
    assert [cache.load(output) for output in held.outputs] == [[1, 2], "text"]
    assert cache.find("a" * 64) is None
    assert (cache.last_seconds("fit"), cache.last_seconds("load")) == (1.5, None)


def test_equal_values_are_one_file(tmp_path: Path):
    cache = Cache(tmp_path)
    assert cache.save({"a": [LONG]}) == cache.save({"a": [LONG]})
    assert len(list((tmp_path / "objects").iterdir())) == 1


def test_a_result_whose_output_is_gone_is_not_found(tmp_path: Path):
    cache = Cache(tmp_path)
    output = cache.save(LONG)
    cache.put("k", "fit", Result((output,), {}, {}, 0.0))
    (tmp_path / "objects" / output.digest).unlink()
    assert cache.find("k") is None


def test_a_refused_value_leaves_nothing(tmp_path: Path):
    cache = Cache(tmp_path)
    with pytest.raises(Invalid):
        cache.save(object())
    assert list((tmp_path / "objects").iterdir()) == []


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be written") as error:
        Cache(tmp_path / "file")
    assert "MODELYARD_HOME" in error.value.remedy


def test_a_disk_that_refuses_says_so(tmp_path: Path):
    cache = Cache(tmp_path)
    (tmp_path / "objects").rmdir()
    with pytest.raises(Unavailable, match="cannot be written"):
        cache.save(LONG)


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path):
    cache = Cache(tmp_path)
    hard, soft = resource.getrlimit(resource.RLIMIT_FSIZE)[::-1]
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(Unavailable, match="Free space"):
            cache.save("x" * (1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list((tmp_path / "objects").iterdir()) == []


def _hold(root: str, held: "threading.Event", done: "threading.Event") -> None:
    with Cache(Path(root)).lease("k"):
        held.set()
        done.wait(20)


def test_a_lease_makes_another_process_wait_and_dies_with_its_holder(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), held, done))
    holder.start()
    assert held.wait(30)
    entered = threading.Event()

    def enter() -> None:
        with Cache(tmp_path).lease("k"):
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered.wait(0.2)
    holder.kill()
    holder.join(20)
    assert entered.wait(20)
    waiting.join(20)


def test_a_damaged_output_is_not_served(tmp_path: Path):
    cache = Cache(tmp_path)
    output = cache.save(LONG)
    cache.put("k", "fit", Result((output,), {}, {}, 0.0))
    assert cache.find("k") is not None
    (tmp_path / "objects" / output.digest).write_text('"other"')
    with pytest.raises(Unavailable):
        Cache(tmp_path).load(output)
    assert cache.find("k") is None


def test_a_torn_record_is_not_found(tmp_path: Path):
    cache = Cache(tmp_path)
    (tmp_path / "steps" / "k.json").write_text('{"outputs": [')
    assert cache.find("k") is None


def test_a_large_output_is_trusted_only_by_the_run_that_wrote_it(tmp_path: Path):
    stored = Cache(tmp_path).save(bytes(70 << 20))
    assert list(large_in(container("list", (("0", stored),)))) == [stored.digest]
    with Cache(tmp_path).path(stored).open("r+b") as stream:
        stream.write(b"x")
    ours = Cache(tmp_path)
    ours.trust([stored.digest])
    assert ours.load(stored)[0] == ord("x")
    with pytest.raises(Unavailable, match="damaged"):
        Cache(tmp_path).load(stored)
