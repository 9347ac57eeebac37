"""Processes of one thread each, which report while they work."""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

import jax

XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

_reports: Any = None  # in a process of the pool: the queue to the parent


@contextlib.contextmanager
def pool(processes: int, cache: pathlib.Path) -> Iterator[Callable[..., Iterator[Any]]]:
    """A function that works in processes, which share a folder of compiled programs."""
    context, flags = multiprocessing.get_context("spawn"), os.environ.get("XLA_FLAGS", "")
    reports = context.SimpleQueue()  # whose `put` returns when the report is under way
    executor = ProcessPoolExecutor(processes, context, _initialize, (reports, str(cache.resolve())))

    def results(work: Callable[..., None], jobs: Sequence[Any], at_once: int = processes) -> Iterator[Any]:
        """What `work(report, *job)` reports, as it comes; the first exception ends it."""
        waiting, running = list(jobs), set()
        while waiting or running:
            while waiting and len(running) < at_once:
                running.add(executor.submit(_do, work, waiting.pop(0)))
            done, running = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
            while not reports.empty():
                yield reports.get()
            for job in done:
                job.result()

    try:
        os.environ["XLA_FLAGS"] = f"{flags} {XLA_FLAGS}"  # which JAX reads where it starts, in the processes
        yield results
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        os.environ["XLA_FLAGS"] = flags
        executor.shutdown(cancel_futures=True)


def _initialize(reports: Any, cache: str) -> None:
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the processes
    threading.Thread(target=_follow_parent, daemon=True).start()
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _do(work: Callable[..., None], job: tuple[Any, ...]) -> None:
    work(_reports.put, *job)


def _follow_parent() -> None:
    """Ends this process with its parent, also where that is killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
