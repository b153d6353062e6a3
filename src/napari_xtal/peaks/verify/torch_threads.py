"""How many threads torch uses inside ours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

_lock = threading.Lock()
_users = 0
_before = 1


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Let worker threads set torch to one thread each (`use_one`) and undo it afterwards.

    Torch shares the work of every small operation among all cores, which costs more than it
    gains; one window batch per thread scales. The setting holds for the calling thread and
    for threads that start later, hence the count of users.
    """
    global _users, _before
    with _lock:
        if _users == 0:
            _before = torch.get_num_threads()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            # For this thread, and those that start later; workers ask before each batch.
            torch.set_num_threads(_before)


def use_one() -> None:
    """Use one thread for torch in this thread; only inside `one_thread_each`."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
