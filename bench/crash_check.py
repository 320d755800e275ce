"""What became of an exam whose agent was killed: everything that was promised, bit for bit?"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.config import load
from agent.spool import Spool
from bench.agents import agent_process
from bench.exams import exchange, stack
from protocols.mrd_hdf5 import read_measurement
from protocols.mrd_types import ImageMessage

if TYPE_CHECKING:
    from bench.crash import Sent

Images = dict[str, list[ImageMessage]]


def unbroken(folder: Path, configs: Sequence[str], slices: int) -> Images:
    """Return the images of the measurement from an agent that nobody kills, by configuration."""
    with agent_process(folder, {"threads": 1}) as agent:
        images: Images = {}
        for config in configs:
            with agent.connect() as peer:
                images[config] = exchange(peer, config, stack(slices)).images
            if len(images[config]) != slices:
                raise RuntimeError(f"expected {slices} images, got {len(images[config])}")
    return images


def check(folder: Path, sent: Sequence["Sent"], expected: Images, slices: int) -> Counter[str]:
    """Count what is lost, doubled or damaged after an exam.

    Lost images: slices that were whole among the acknowledged or spooled bytes, and which neither
    the scanner nor the results have as they would have been. Doubled: more than once with the
    scanner, or in the results, or in the results although the scanner had its CLOSE. Lost bytes:
    acknowledged, and not in the spool as they were sent.
    """
    spool = Spool(load(spool={"folder": folder / "spool"}).spool)
    files = {name: spool.path(name).read_bytes() for name in spool.names()}
    found: Counter[str] = Counter(lost_images=0)
    for each in sent:
        # Up to its first readout a measurement is like others: then nothing was promised either.
        mine = [
            name
            for name, raw in files.items()
            if each.stream.startswith(raw) and len(raw) >= each.ends[0]
        ]
        raw = files[mine[0]] if mine else b""
        found["lost_bytes"] += max(0, each.acknowledged - len(raw)) if each.acknowledged else 0
        found["damaged_stores"] += len(mine) > 1
        kept = _kept(spool, mine[0]) if mine else []
        whole = int(np.searchsorted(each.ends, max(len(raw), each.acknowledged), "right"))
        whole //= len(each.ends) // slices
        got = each.outcome.images
        truth = expected[each.config]
        for index in range(whole):
            copies = [image for image in (*got, *kept) if _same(image, truth[index])]
            found["lost_images"] += not copies
        for images in (got, kept):
            numbers = Counter(int(image.header["slice"]) for image in images)
            found["doubled_images"] += sum(n - 1 for n in numbers.values())
        if each.outcome.closed:
            found["doubled_images"] += len(kept)
    for name in files:
        found["damaged_stores"] += not spool.done(name)
    for path in folder.rglob("*.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            found["damaged_stores"] += database.execute("PRAGMA integrity_check").fetchone() != (
                "ok",
            )
    return found


def _kept(spool: Spool, name: str) -> list[ImageMessage]:
    path = spool.results / f"{name}.h5"
    if not path.exists():
        return []
    return [item for item in read_measurement(path) if isinstance(item, ImageMessage)]


def _same(image: ImageMessage, truth: ImageMessage) -> bool:
    return bool(
        image.header["slice"] == truth.header["slice"] and np.array_equal(image.data, truth.data)
    )
