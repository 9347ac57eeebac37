"""Processes of one thread each: first one that times steps, alone, then several that train."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

Job = tuple[Any, ...]
Work = Callable[[Job, Callable[[Any], None]], None]  # does a job and reports what comes of it


def results(work: Work, jobs: Sequence[Job], processes: int) -> Iterator[Any]:
    """What `work` reports of all jobs, as it comes; the first exception of a job ends everything."""
    processes = min(processes, len(jobs))
    context = multiprocessing.get_context("spawn")
    waiting, done = context.Queue(), context.Queue()
    workers = [context.Process(target=_serve, args=(work, waiting, done), daemon=True) for _ in range(processes)]
    try:
        with _single_thread():
            for worker in workers:
                worker.start()
        for job in [*jobs, *[None] * processes]:
            waiting.put(job)
        open_jobs = len(jobs)
        while open_jobs:
            outcome, value = _next(done, workers)
            if outcome == "failed":
                raise RuntimeError(f"A worker failed:\n{value}")
            if outcome == "finished":
                open_jobs -= 1
            else:
                yield value
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _next(done: Any, workers: Sequence[Any]) -> tuple[str, Any]:
    while True:
        try:
            return done.get(timeout=1.0)
        except queue.Empty:
            if codes := [worker.exitcode for worker in workers if worker.exitcode]:
                raise RuntimeError(f"A worker ended with the exit code {codes[0]}.") from None


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    """The environment that the workers inherit: JAX reads it when it is imported."""
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} {XLA_FLAGS}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before


def _serve(work: Work, waiting: Any, done: Any) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    try:
        while (job := waiting.get()) is not None:
            work(job, lambda value: done.put(("reported", value)))
            done.put(("finished", None))
    except Exception:  # noqa: BLE001 - handed on to the parent, with its traceback
        done.put(("failed", traceback.format_exc()))


def _follow_parent() -> None:
    """Ends this process with its parent, which ends its workers itself unless it is killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
