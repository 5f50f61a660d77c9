"""Selection of the rows of a store that an output wants: by a seed and their keys, or by their shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipeline.stores.tables.schema import Store


@dataclass(frozen=True)
class Selection:
    """Keys whose hash falls into [low, high) of [0, 1): about that share of them, the same on every machine."""

    seed: int
    low: float
    high: float
    salt: str = ""
    """Text that makes a new draw: membership in one selection then says nothing about membership in the other."""

    def wants(self, key: str) -> bool:
        return self.low <= position(f"{self.salt}:{key}" if self.salt else key, self.seed) < self.high


def position(key: str, seed: int) -> float:
    """Return the position of `key` on [0, 1)."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def splits(shares: Mapping[str, float], seed: int) -> dict[str, Selection]:
    """Return adjacent selections, one a name, so that each key belongs to exactly one. The shares add up to 1."""
    edges, low = {}, 0.0
    for i, (name, share) in enumerate(shares.items()):
        high = 1.0 if i + 1 == len(shares) else low + share
        edges[name] = Selection(seed, low, high)
        low = high
    return edges


def only_shards(store: Store, which: np.ndarray) -> Store:
    """Return the part of a store that the shards with these numbers, which ascend, are."""
    shards, ranges = store.shards.take(which), store.ranges_of(which)
    numbers = np.searchsorted(which, ranges.shard).astype(ranges.shard.dtype)
    return replace(store, shards=shards, look=replace(ranges, shards=shards, shard=numbers).of_shards)
