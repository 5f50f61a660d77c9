from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pipeline.images import Room


def test_threads_share_the_room_and_a_large_image_is_alone_in_it() -> None:
    room, lock, held, seen = Room(10), threading.Lock(), [0], list[tuple[int, int]]()

    def work(size: int) -> None:
        with room.of(size):
            with lock:
                held[0] += size
                seen.append((size, held[0]))
            time.sleep(0.01)
            with lock:
                held[0] -= size

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [3, 4, 20, 2, 3, 10, 1, 0, 5, 30, 2] * 3))
    assert all(total <= 10 or total == size for size, total in seen)
    assert max(total for size, total in seen if size <= 5) > 5  # several at once
    assert len(seen) == 33
