"""A tracking server in memory that can be away or silent. It imports nothing heavy: a process of its own uses it."""

import threading
from collections.abc import Iterable, Mapping

from ti_core.errors import NotFoundError, ServiceError


class MemoryServer:
    """Keeps rows once, as MLflow does. `away` fails, `silent` does not answer until it is set again."""

    def __init__(self) -> None:
        self.rows = dict[str, set[tuple[tuple[str, float], ...]]]()
        self.away, self.answers = False, threading.Event()
        self.unknown = set[str]()
        self.calls = 0
        self.answers.set()

    def log_training(self, run_id: str, rows: Iterable[Mapping[str, float]]) -> None:
        self.calls += 1
        self.answers.wait(30)
        if self.away:
            raise ServiceError("The tracking server is away.")
        if run_id in self.unknown:
            raise NotFoundError(f"There is no run {run_id}.")
        self.rows.setdefault(run_id, set()).update(tuple(sorted(row.items())) for row in rows)

    def steps(self, run_id: str) -> list[int]:
        return sorted(int(dict(row)["step"]) for row in self.rows.get(run_id, ()))
