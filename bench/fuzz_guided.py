"""Coverage-guided fuzzing of the MRD reader with libFuzzer (`atheris`), where it is installed.

A process of its own, because libFuzzer never returns: it is given a corpus of valid messages and so
many seconds, and its exit status tells whether an input was found that crashes or hangs.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def executions(seconds: int) -> int | None:
    """Return how many inputs were tried without a crash; None where atheris is missing.

    Raises
    ------
    RuntimeError
        An input crashes the reader.
    """
    if importlib.util.find_spec("atheris") is None:
        return None
    from bench.fuzz_mrd import messages

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, message in enumerate(messages()):
            (corpus / str(number)).write_bytes(message[:4096])
        command = [sys.executable, "-m", "bench.fuzz_guided", str(corpus), "-max_len=8192"]
        command += [f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=2048"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        raise RuntimeError(f"libFuzzer found an input: {done.stderr[-3000:]}")
    found = re.findall(r"Done (\d+) runs", done.stderr)
    return int(found[-1]) if found else 0


def _main() -> None:
    import atheris

    with atheris.instrument_imports(include=["protocols"]):
        from bench.fuzz_mrd import read

    atheris.Setup(sys.argv, lambda raw: read(raw) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
