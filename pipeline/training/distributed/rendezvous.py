"""Rendezvous of training's workers on one machine: at a file, instead of a port that is open to other hosts.

Torch's own rendezvous listens on all addresses and asks for no token. Apart from `ray_internals`, this is the only
module that uses names outside Ray's public interface; they need Ray Train and torch, which are slow to import.
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
    """Config that sets up torch's process group through a new file in `folder` at each start of the workers."""

    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        assert isinstance(backend_config, MeetAtFile)
        path = Path(backend_config.folder, f"rendezvous-{uuid.uuid4().hex}")
        redirected: Any = _Redirected(worker_group, f"file://{path}")
        super().on_start(redirected, backend_config)


class _Redirected:
    """Worker group that is given another rendezvous than the one that Ray has chosen."""

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
