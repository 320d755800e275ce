"""The peer `bart` (Berkeley Advanced Reconstruction Toolbox): its files, its commands, timed."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np


def available() -> bool:
    """Return whether the program is installed."""
    return shutil.which("bart") is not None


def run(*command: str, threads: int = 2, **arrays: np.ndarray) -> tuple[np.ndarray, float]:
    """Run one command of bart; returns its result and the seconds it took.

    Parameters
    ----------
    *command : str
        Arguments; names of ``arrays`` stand for their files, the result is added at the end.
    threads : int
    **arrays : complex64
        In bart's order of dimensions: readout, phase 1, phase 2, coil, maps.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            _write(Path(folder) / name, array)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        start = time.perf_counter()
        subprocess.run(
            ["bart", *command, "result"],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
        return _read(Path(folder) / "result"), seconds


def _write(path: Path, array: np.ndarray) -> None:
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def _read(path: Path) -> np.ndarray:
    shape = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape, order="F")
