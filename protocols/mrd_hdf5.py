"""Measurements in files: ISMRMRD HDF5, and recorded MRD streams.

The HDF5 layout is that of the ISMRMRD C++ library and the `ismrmrd` package: a group (usually
``dataset``) with ``xml``, ``data`` and ``waveforms``, and a group with ``data``, ``header`` and
``attributes`` for each image series, named ``image_<series>`` by all but a few programs.
``config``, ``config_file`` and ``configAdditional`` are what Siemens FIRE's server adds. Some
converters (siemens_to_ismrmrd 1.3 and later) write the wire's bytes instead: `open_measurement`
reads both.

Readouts are read and written in batches; memory is bounded by one batch, whatever the file's size.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from protocols.errors import FileFormatError
from protocols.mrd import Message, Reader
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    IMAGE_DTYPES,
    IMAGE_HEADER,
    WAVEFORM_HEADER,
    Close,
    ConfigFile,
    ConfigText,
    ErrorText,
    HeaderText,
    ImageMessage,
    MessageId,
    Query,
    ReadoutBlock,
    Response,
    Text,
    Waveform,
)

Path: TypeAlias = str | os.PathLike[str]
_BYTES = h5py.special_dtype(vlen=bytes)
_ACQUISITION = np.dtype(
    [
        ("head", ACQUISITION_HEADER),
        ("traj", h5py.special_dtype(vlen=np.dtype("<f4"))),
        ("data", h5py.special_dtype(vlen=np.dtype("<f4"))),
    ]
)
_WAVEFORM = np.dtype(
    [("head", WAVEFORM_HEADER), ("data", h5py.special_dtype(vlen=np.dtype("<u4")))]
)
_CHUNK_READOUTS = 256
_IMAGE_CODES = {dtype: code for code, dtype in IMAGE_DTYPES.items()}


def open_measurement(path: Path, group: str | None = None) -> Iterator[Message]:
    """Yield the messages of a file, whether ISMRMRD HDF5 or a recorded stream, without a `Close`.

    Parameters
    ----------
    path : path
    group : str or None
        As for `read_measurement`; a stream has none.

    Raises
    ------
    FileFormatError
        The file is neither.
    WireError
        A recorded stream breaks off or breaks the protocol.
    """
    if h5py.is_hdf5(path):
        yield from read_measurement(path, group)
        return
    with open(path, "rb", buffering=0) as file:
        first = file.read(2)
        if int.from_bytes(first, "little") not in set(MessageId) or len(first) < 2:
            raise FileFormatError(
                f"{os.fspath(path)}: expected ISMRMRD HDF5 or a stream of MRD messages, "
                f"got a file that starts with {first!r}"
            )
        file.seek(0)
        for message in Reader(file):
            if not isinstance(message, Close):
                yield message


def read_measurement(
    path: Path, group: str | None = None, block_readouts: int = 256
) -> Iterator[Message]:
    """Yield the messages of a measurement in an ISMRMRD HDF5 file, in the order of a session.

    Configuration (if the file has one), header, FIRE's parameters (``configAdditional``, if any),
    readouts in the order of the file, waveforms, images.

    Parameters
    ----------
    path : path
    group : str or None
        None takes the file's only group.
    block_readouts : int
        Most readouts of a block.

    Raises
    ------
    FileFormatError
        No HDF5, no such group, several groups and none chosen, a group without a measurement, or
        readouts whose sizes contradict their headers.
    """
    if not h5py.is_hdf5(path):
        raise FileFormatError(f"{os.fspath(path)}: expected ISMRMRD HDF5, got another format")
    with h5py.File(path, "r") as file:
        dataset = _choose_group(file, group)
        images = sorted(filter(lambda name: _is_images(dataset[name]), dataset), key=_image_order)
        if not images and not {"xml", "data"} & set(dataset):
            raise FileFormatError(
                f"{os.fspath(path)}, group {dataset.name}: expected xml, data or image groups, "
                f"got {sorted(dataset)}"
            )
        if "config_file" in dataset:
            yield ConfigFile(_text(dataset["config_file"]))
        elif "config" in dataset:
            yield ConfigText(_text(dataset["config"]))
        if "xml" in dataset:
            yield HeaderText(_text(dataset["xml"]))
        if "configAdditional" in dataset:
            yield Text(_text(dataset["configAdditional"]))
        if "data" in dataset:
            yield from _read_readouts(dataset["data"], block_readouts)
        if "waveforms" in dataset:
            yield from _read_waveforms(dataset["waveforms"], block_readouts)
        for name in images:
            yield from _read_images(dataset[name])


def write_measurement(path: Path, messages: Iterable[Message], group: str = "dataset") -> None:
    """Write a measurement into a group of its own of an ISMRMRD HDF5 file.

    What the format has no place for (queries, errors, texts after the first) is left out.

    Parameters
    ----------
    path : path
        Made where it does not exist; other groups in it stay.
    messages : iterable of Message
    group : str

    Raises
    ------
    FileFormatError
        The group holds a measurement already, or a message is one of Gadgetron's compound ones.
    """
    with h5py.File(path, "a") as file:
        dataset = file.require_group(group)
        if {"xml", "data"} & set(dataset):
            raise FileFormatError(
                f"{os.fspath(path)}: group {group!r} holds a measurement already; "
                "choose another group or another file"
            )
        for message in messages:
            _write_message(dataset, message)


def write_images(path: Path, images: Iterable[ImageMessage], group: str = "dataset") -> None:
    """Append images to the groups ``image_<series>`` of an ISMRMRD HDF5 file.

    Such a group holds images of one size and type only; where those of a series differ, the
    others go to ``image_<series>_1`` and so on.
    """
    with h5py.File(path, "a") as file:
        dataset = file.require_group(group)
        for image in images:
            _append_image(dataset, image)


def _choose_group(file: Any, group: str | None) -> Any:
    groups = sorted(name for name, item in file.items() if isinstance(item, h5py.Group))
    if group is None:
        if len(groups) != 1:
            raise FileFormatError(
                f"{file.filename}: expected one group, got {groups}; say which with group"
            )
        group = groups[0]
    if not isinstance(file.get(group), h5py.Group):
        raise FileFormatError(f"{file.filename}: expected group {group!r}, got {groups}")
    return file[group]


def _is_images(item: Any) -> bool:
    return isinstance(item, h5py.Group) and {"data", "header"} <= set(item)


def _image_order(name: str) -> tuple[str | int, ...]:
    """Sort image_2 before image_10: texts and numbers take turns, as split gives them."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


def _text(dataset: Any) -> str:
    value = dataset[0] if dataset.shape else dataset[()]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.rstrip("\x00")


def _same_fields(records: NDArray[Any], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Copy records into ``dtype`` by field name, whatever their order and padding in the file."""
    result = np.zeros(records.shape, dtype)
    assert dtype.names is not None
    try:
        for name in dtype.names:
            result[name] = (
                _same_fields(records[name], dtype[name], what)
                if dtype[name].names
                else records[name]
            )
    except (ValueError, IndexError, KeyError) as error:
        raise FileFormatError(
            f"expected {what} with a field {name!r} of an ISMRMRD version 1 file, got {error}"
        ) from error
    return result


def _joined(parts: NDArray[Any], dtype: str, shape: tuple[int, ...], what: str) -> NDArray[Any]:
    """Join the variable-length arrays of equal readouts into one array."""
    joined = np.concatenate(list(parts)).astype(np.dtype(dtype).newbyteorder("<"), copy=False)
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    if (sizes != np.prod(shape, dtype=np.int64)).any():
        raise FileFormatError(
            f"expected {what} of shape {shape}, as its header says, got {set(sizes.tolist())} "
            "numbers"
        )
    return joined.reshape(len(parts), *shape)


def _read_readouts(dataset: Any, block_readouts: int) -> Iterator[ReadoutBlock]:
    for start in range(0, dataset.shape[0], block_readouts):
        records = dataset[start : start + block_readouts]
        headers = _same_fields(records["head"], ACQUISITION_HEADER, "acquisition header")
        names = ["number_of_samples", "active_channels", "trajectory_dimensions"]
        shapes = np.stack([headers[name] for name in names], axis=1).astype(np.int64)
        changes = np.flatnonzero((np.diff(shapes, axis=0) != 0).any(axis=1)) + 1
        for first, stop in zip([0, *changes], [*changes, len(records)], strict=True):
            samples, coils, dims = (int(n) for n in shapes[first])
            run = records[first:stop]
            data = _joined(run["data"], "f4", (coils, 2 * samples), "readout data")
            yield ReadoutBlock(
                headers[first:stop],
                data.view(np.complex64),
                _joined(run["traj"], "f4", (samples, dims), "trajectory") if dims else None,
            )


def _read_waveforms(dataset: Any, batch: int) -> Iterator[Waveform]:
    for start in range(0, dataset.shape[0], batch):
        records = dataset[start : start + batch]
        headers = _same_fields(records["head"], WAVEFORM_HEADER, "waveform header")
        for header, data in zip(headers, records["data"], strict=True):
            shape = int(header["channels"]), int(header["number_of_samples"])
            wave = np.empty(1, object)
            wave[0] = data
            yield Waveform(header, _joined(wave, "u4", shape, "waveform")[0])


def _read_images(group: Any) -> Iterator[ImageMessage]:
    headers = _same_fields(group["header"][:].reshape(-1), IMAGE_HEADER, "image header")
    for number, header in enumerate(headers):
        data = group["data"][number]
        if data.dtype.names:
            data = data.view(f"c{data.dtype.itemsize}")
        data = data.reshape((-1, *data.shape[-3:]))
        text = group["attributes"][number] if "attributes" in group else b""
        yield ImageMessage(header, data, text.decode() if isinstance(text, bytes) else str(text))


def _write_message(dataset: Any, message: Message) -> None:
    match message:
        case ReadoutBlock():
            _append(dataset, "data", _acquisitions(message))
        case Waveform():
            _append(dataset, "waveforms", _waveforms(message))
        case ImageMessage():
            _append_image(dataset, message)
        case HeaderText():
            _put_text(dataset, "xml", message.xml)
        case ConfigFile():
            _put_text(dataset, "config_file", message.name)
        case ConfigText():
            _put_text(dataset, "config", message.text)
        case Text():
            _put_text(dataset, "configAdditional", message.text)
        case Close() | Query() | Response() | ErrorText():
            pass
        case _:
            raise FileFormatError(
                f"ISMRMRD HDF5 has no place for {type(message).__name__}: "
                "expected readouts, waveforms, images and texts"
            )


def _put_text(dataset: Any, name: str, text: str) -> None:
    if name not in dataset:
        dataset.create_dataset(name, (1,), dtype=_BYTES)[0] = text.encode()


def _append(dataset: Any, name: str, records: NDArray[Any]) -> None:
    if name not in dataset:
        dataset.create_dataset(
            name, (0,), maxshape=(None,), chunks=(_CHUNK_READOUTS,), dtype=records.dtype
        )
    start = dataset[name].shape[0]
    dataset[name].resize(start + len(records), axis=0)
    dataset[name][start:] = records


def _acquisitions(block: ReadoutBlock) -> NDArray[Any]:
    count, coils, samples = block.samples.shape
    records = np.empty(count, _ACQUISITION)
    records["head"] = block.headers
    records["head"]["number_of_samples"] = samples
    records["head"]["active_channels"] = coils
    dims = 0 if block.trajectory is None else block.trajectory.shape[2]
    records["head"]["trajectory_dimensions"] = dims
    data = np.ascontiguousarray(block.samples, "<c8").reshape(count, -1).view("<f4")
    trajectory = block.trajectory if dims else np.zeros((count, 0))
    flat = np.ascontiguousarray(trajectory, "<f4").reshape(count, samples * dims)
    records["data"] = np.fromiter(data, object, count)
    records["traj"] = np.fromiter(flat, object, count)
    return records


def _waveforms(waveform: Waveform) -> NDArray[Any]:
    records = np.empty(1, _WAVEFORM)
    records["head"] = waveform.header
    records["head"]["channels"], records["head"]["number_of_samples"] = waveform.data.shape
    records["data"][0] = np.ascontiguousarray(waveform.data, "<u4").reshape(-1)
    return records


def _append_image(dataset: Any, image: ImageMessage) -> None:
    data = np.ascontiguousarray(image.data)
    dtype = data.dtype.newbyteorder("<")
    if data.ndim != 4 or dtype not in _IMAGE_CODES:
        raise FileFormatError(
            f"expected an image (channel, z, y, x) of an MRD type, got {data.dtype} {data.shape}"
        )
    data = data.astype(dtype, copy=False)
    if dtype.kind == "c":
        part = f"<f{dtype.itemsize // 2}"
        data = data.view([("real", part), ("imag", part)])
    header = np.array(image.header, IMAGE_HEADER)
    header["channels"], header["matrix_size"] = data.shape[0], data.shape[:0:-1]
    header["data_type"] = _IMAGE_CODES[dtype]
    header["attribute_string_len"] = len(image.attributes.encode())
    group = _image_group(dataset, int(header["image_series_index"]), data)
    number = group["header"].shape[0]
    for name, value in (("header", header), ("attributes", image.attributes), ("data", data)):
        group[name].resize(number + 1, axis=0)
        group[name][number] = value


def _image_group(dataset: Any, series: int, data: NDArray[Any]) -> Any:
    """Return the group of a series whose images are like ``data``, making it where needed."""
    name, further = f"image_{series}", 0
    while name in dataset:
        held = dataset[name]["data"]
        if held.shape[1:] == data.shape and held.dtype == data.dtype:
            return dataset[name]
        further += 1
        name = f"image_{series}_{further}"
    group = dataset.create_group(name)
    text = h5py.special_dtype(vlen=str)
    group.create_dataset("header", (0,), maxshape=(None,), dtype=IMAGE_HEADER)
    group.create_dataset("attributes", (0,), maxshape=(None,), dtype=text)
    shape = (0, *data.shape), (None, *data.shape), (1, *data.shape)
    group.create_dataset("data", shape[0], maxshape=shape[1], chunks=shape[2], dtype=data.dtype)
    return group
