"""Relaxation maps that are kept, so that another contrast of them is there at once.

Fitted once for a measurement, then a file in the requests' folder; the latest stay in memory.
"""

import json
import zipfile
from collections import OrderedDict
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from agent import log
from agent.requests_images import Recorded
from gadgets.items import FrameKey, Image
from gadgets.synthesis.maps import RelaxationMaps
from gadgets.synthesis.maps_gadget import MeasuredMaps, measured_maps

IN_MEMORY = 2
IN_FOLDER = 16
_SAME = (
    "field_of_view", "quantity", "snr_units", "history", "n_readouts", "acceleration", "complete",
    "attributes",
)  # fmt: skip
"""What else is kept of a source: all that images made of it carry on."""


class Maps:
    """The maps of the latest measurements that were asked for.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory: OrderedDict[str, MeasuredMaps] = OrderedDict()

    def of(self, recorded: Recorded) -> MeasuredMaps:
        """Return the maps of a measurement.

        Raises
        ------
        Unavailable
            It has none.
        """
        name = recorded.name
        found = self._memory.get(name) or self._load(name)
        if found is None:
            found = measured_maps(recorded.reconstructed(), recorded.header)
            self._keep(name, found)
        self._memory[name] = found
        self._memory.move_to_end(name)
        while len(self._memory) > IN_MEMORY:
            self._memory.popitem(last=False)
        return found

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def _load(self, name: str) -> MeasuredMaps | None:
        path = self._path(name)
        try:
            with np.load(path) as file:
                found = _of_arrays({key: file[key] for key in file.files})
            path.touch()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            log.get(measurement=name).warning("maps fitted again", reason=str(error))
            return None
        return found

    def _keep(self, name: str, measured: MeasuredMaps) -> None:
        part = self._folder / f".{name}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with part.open("wb") as file:
                np.savez(file, **_arrays(measured))
            part.replace(self._path(name))
        except OSError as error:
            part.unlink(missing_ok=True)
            log.get(measurement=name).warning("maps not kept", reason=str(error))
        files = sorted(self._folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        for path in files[:-IN_FOLDER]:
            path.unlink(missing_ok=True)


def _arrays(measured: MeasuredMaps) -> dict[str, Any]:
    maps = {f.name: getattr(measured.maps, f.name) for f in fields(RelaxationMaps)}
    about = {
        "method": measured.method,
        "sources": [
            {"key": list(source.key), "shape": list(source.data.shape)}
            | {name: getattr(source, name) for name in _SAME}
            for source in measured.sources
        ],
    }
    return {
        **{name: np.asarray(value) for name, value in maps.items() if value is not None},
        "headers": np.array([source.header for source in measured.sources]),
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
    }


def _of_arrays(arrays: dict[str, np.ndarray]) -> MeasuredMaps:
    about = json.loads(arrays.pop("about").tobytes())
    headers = arrays.pop("headers")
    maps: dict[str, Any] = {n: v if v.ndim else float(v) for n, v in arrays.items()}
    sources = []
    for header, source in zip(headers, about["sources"], strict=True):
        same = {name: source[name] for name in _SAME}
        same |= {name: tuple(same[name]) for name in ("field_of_view", "history")}
        # Of its pixels nothing is needed any more but how many there were.
        data = np.broadcast_to(np.float32(0), source["shape"])
        sources.append(Image(data, FrameKey(*source["key"]), header, **same))
    return MeasuredMaps(RelaxationMaps(**maps), tuple(sources), about["method"])
