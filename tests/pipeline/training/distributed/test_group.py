"""Agreement of ranks: what one raises, all raise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipeline.training.distributed.group import Group, RunError
from tests import processes


def test_alone_what_lasts_ends_the_run_and_anything_else_is_raised_as_it_is() -> None:
    group = Group()
    with group.raise_on_all_ranks(ValueError):
        pass
    with pytest.raises(RunError, match="no such image"), group.raise_on_all_ranks(ValueError):
        raise ValueError("no such image")
    with pytest.raises(OSError, match="timed out"), group.raise_on_all_ranks(ValueError):
        raise OSError("timed out")
    with pytest.raises(RunError, match="as it is"), group.raise_on_all_ranks():
        raise RunError("as it is")


CASES: list[dict[int, Exception]] = [
    {},
    {1: ValueError("bad on 1")},
    {0: ValueError("bad on 0"), 1: ValueError("bad on 1")},
    {1: OSError("disk of 1")},
    {0: OSError("disk of 0"), 1: ValueError("bad on 1")},
]


def _rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    group, found = Group(rank=rank, workers=2), []
    for case in CASES:
        try:
            with group.raise_on_all_ranks(ValueError):
                if rank in case:
                    raise case[rank]
            found.append("")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_ranks_end_alike(tmp_path: Path) -> None:
    processes.run_ranks(_rank, (str(tmp_path),), 2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [list(pair) for pair in zip(*found, strict=True)] == [
        ["", ""],
        ["RunError: bad on 1", "RunError: bad on 1"],
        ["RunError: bad on 0", "RunError: bad on 0"],
        ["PeerError: disk of 1", "OSError: disk of 1"],
        ["RunError: bad on 1", "RunError: bad on 1"],
    ]
