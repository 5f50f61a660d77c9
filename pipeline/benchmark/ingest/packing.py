"""Measure packing of pictures as they are, beside a script that reads, hashes, writes and syncs the same objects."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import simplejpeg

from pipeline import storage
from pipeline.benchmark.basis.running import Contender, running
from pipeline.cluster import host
from pipeline.engine.executors import local
from pipeline.engine.records.limits import MOST_ROWS
from pipeline.engine.run import run
from pipeline.pack.config import PackConfig
from pipeline.pack.job import pack_jobs

SCRIPT, PROVING = "plain script", "script that decodes, too"
PACK = "pack, in one process"


@dataclass(frozen=True)
class Script:
    """Loop of one process: each file is read and hashed, and as many as a shard holds are written as one object."""

    folder: str
    output: str
    decodes: bool
    """Prove that each image can be decoded, as packing does."""

    def prepare(self) -> Callable[[], int]:
        """Return the repetition."""

        def repetition() -> int:
            shutil.rmtree(self.output, ignore_errors=True)
            names = iter(sorted(os.listdir(self.folder)))
            count = 0
            for number in itertools.count():
                held = list[bytes]()
                for name in itertools.islice(names, MOST_ROWS):
                    held.append(data := storage.read(f"{self.folder}/{name}"))
                    hashlib.sha256(data).hexdigest()
                    if self.decodes:
                        simplejpeg.decode_jpeg(data)
                if not held:
                    return count
                count += len(held)
                storage.create(f"{self.output}/{number}", b"".join(held))  # synced, with its name
            raise AssertionError("unreachable")

        return repetition


@dataclass(frozen=True)
class Pack:
    """Job `pack` over a folder, from its plan to its mark, in the plain loop of one process."""

    folder: str
    output: str

    def prepare(self) -> Callable[[], int]:
        """Return the repetition."""
        config = PackConfig(input=self.folder, output=self.output, local=True)

        def repetition() -> int:
            shutil.rmtree(self.output, ignore_errors=True)
            [outcome] = run(pack_jobs(config), local.execute, config.budget)
            return outcome.totals.ok

        return repetition


@contextlib.contextmanager
def measurements(scratch: str, folder: str) -> Iterator[dict[str, Callable[[], float]]]:
    """Yield what measures each of them over a folder of images, in images/s."""
    ones: dict[str, Contender] = {
        SCRIPT: Script(folder, f"{scratch}/plain", decodes=False),
        PROVING: Script(folder, f"{scratch}/proving", decodes=True),
        PACK: Pack(folder, f"{scratch}/packed"),
    }
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(running(one, host.WORKER_ENVIRONMENT)) for name, one in ones.items()}
