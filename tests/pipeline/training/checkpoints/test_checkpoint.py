from __future__ import annotations

import hashlib
import json
import pickle

import pytest
import torch

from pipeline import storage
from pipeline.training.checkpoints import checkpoint
from tests.pipeline.training import small
from tests.pipeline.training.small import assert_same_bits

PARTS = {"networks": {"w": torch.arange(4.0)}, "position": {"steps": 3, "names": ["x", "y"]}}


def write(run: str, step: int) -> checkpoint.Record:
    return checkpoint.save(run, step, {**PARTS, "networks": {"w": torch.full((4,), float(step))}}, {"seed": 1})


def part_url(run: str, record: checkpoint.Record, name: str = "networks") -> str:
    return storage.join(run, f"checkpoints/{record.step:09d}/{record.parts[name][0]}")


def record_url(run: str, step: int) -> str:
    return storage.join(run, f"checkpoints/{step:09d}/record.json")


def newest_step(run: str) -> tuple[int | None, list[str]]:
    with small.logged() as said:
        found = checkpoint.newest(run)
    return (found[0].step if found else None), said


def test_what_is_saved_is_found_again(any_prefix: str) -> None:
    saved = checkpoint.save(any_prefix, 12, PARTS, {"seed": 1})
    found = checkpoint.newest(any_prefix)
    assert found is not None
    record, parts = found
    assert record == saved
    assert record.about == {"seed": 1}
    assert parts["position"] == PARTS["position"]
    assert_same_bits(parts["networks"], PARTS["networks"])


def test_there_is_none_in_a_new_run(any_prefix: str) -> None:
    assert checkpoint.newest(any_prefix) is None


def test_the_newest_is_taken_and_steps_are_numbers_not_words(any_prefix: str) -> None:
    for step in (9, 10, 1_000_000_001):
        write(any_prefix, step)
    assert checkpoint.steps(any_prefix) == [9, 10, 1_000_000_001]
    assert newest_step(any_prefix) == (1_000_000_001, [])


def test_without_its_record_a_checkpoint_does_not_exist(any_prefix: str) -> None:
    write(any_prefix, 1)
    write(any_prefix, 2)
    storage.delete(record_url(any_prefix, 2))
    assert newest_step(any_prefix) == (1, [])


@pytest.mark.parametrize(
    "damage", ["truncated part", "flipped bit", "missing part", "truncated record", "empty record"]
)
def test_a_damaged_one_is_named_and_the_one_before_taken_from_then_on(damage: str) -> None:
    run = f"memory://checkpoint/{damage.replace(' ', '-')}"
    write(run, 1)
    record = write(run, 2)
    url = record_url(run, 2) if "record" in damage else part_url(run, record)
    data = storage.read(url)
    if damage == "missing part":
        storage.delete(url)
    elif damage == "flipped bit":
        storage.replace(url, data[:400] + bytes([data[400] ^ 1]) + data[401:])
    else:
        storage.replace(url, data[: len(data) // 2] if damage.startswith("truncated") else b"")
    step, said = newest_step(run)
    assert step == 1
    assert len(said) == 1
    assert "checkpoints/000000002/" in said[0]
    assert "falling back" in said[0]
    assert newest_step(run) == (1, [])
    write(run, 2)
    assert newest_step(run) == (2, [])


def test_a_later_format_is_named_and_left_alone() -> None:
    run = "memory://checkpoint/format"
    write(run, 1)
    write(run, 2)
    url = record_url(run, 2)
    storage.replace(url, storage.read(url).replace(b'"format_version": 1', b'"format_version": 9'))
    for _ in range(2):
        with pytest.raises(checkpoint.UnknownFormatError, match="format 9, and this version knows 1"):
            checkpoint.newest(run)
    assert checkpoint.steps(run) == [1, 2]


def test_the_same_step_can_be_published_twice_with_other_content() -> None:
    """A repeated GPU run need not give the same bits; whichever record stands names its own parts."""
    run = "memory://checkpoint/twice"
    checkpoint.save(run, 5, {"networks": {"w": torch.zeros(2)}}, {})
    checkpoint.save(run, 5, {"networks": {"w": torch.ones(2)}}, {})
    found = checkpoint.newest(run)
    assert found is not None
    assert found[1]["networks"]["w"].tolist() == [1, 1]


def test_pickled_code_is_not_run() -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (pytest.fail, ("code from a checkpoint was run",))

    run = "memory://checkpoint/evil"
    record = write(run, 1)
    data = pickle.dumps(Evil(), protocol=2)
    document = json.loads(storage.read(record_url(run, 1)))
    document["parts"]["networks"][1] = hashlib.sha256(data).hexdigest()
    storage.replace(part_url(run, record), data)
    storage.replace(record_url(run, 1), json.dumps(document).encode())
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.read_part(run, checkpoint.read_record(run, 1), "networks")


def test_the_last_few_are_kept_and_what_kills_left_among_the_older_goes(any_prefix: str) -> None:
    for step in (1, 2, 3, 4):
        write(any_prefix, step)
    storage.delete(record_url(any_prefix, 2))
    storage.replace(storage.join(any_prefix, "checkpoints/notes.txt"), b"not ours")
    checkpoint.prune(any_prefix, 2)
    assert checkpoint.steps(any_prefix) == [3, 4]
    left = {e.name.split("/")[0] for e in storage.list_files(storage.join(any_prefix, "checkpoints"))}
    assert left == {"000000003", "000000004", "notes.txt"}
