"""Where training's workers meet on one machine: at a file, instead of a port that is open to other hosts.

Torch's own meeting place listens on all addresses, and asks nobody for a token. Beside `ray_internals` the only user of
names of Ray's that are no part of its interface: they need Ray Train and torch, for which few want to wait.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


@dataclass
class MeetAtFile(TorchConfig):
    """Torch's process group by a file of its own in `folder`, for each start of the workers."""

    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        assert isinstance(backend_config, MeetAtFile)
        place = Path(backend_config.folder, f"rendezvous-{uuid.uuid4().hex}")
        redirected: Any = _Redirected(worker_group, f"file://{place}")
        super().on_start(redirected, backend_config)


class _Redirected:
    """A group of workers that are told of another place to meet at than Ray has chosen."""

    def __init__(self, group: Any, url: str) -> None:
        self._group, self._url = group, url

    def __len__(self) -> int:
        return len(self._group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def execute_single_async(self, rank: int, function: Any, *args: Any, **options: Any) -> Any:
        if "init_method" in options:
            options["init_method"] = self._url
        return self._group.execute_single_async(rank, function, *args, **options)
