"""ISMRMRD HDF5: what the `ismrmrd` package and the C++ tools write we read, and the other way."""

import io
import shutil
import subprocess

import h5py
import ismrmrd
import numpy as np
import pytest

from protocols.errors import FileFormatError, TruncatedStream
from protocols.header import encodings, parse_header
from protocols.meta import parse_meta
from protocols.mrd import Reader
from protocols.mrd_hdf5 import open_measurement, read_measurement, write_images, write_measurement
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    IMAGE_HEADER,
    WAVEFORM_HEADER,
    AcquisitionFlag,
    Close,
    ConfigFile,
    ConfigText,
    HeaderText,
    ImageMessage,
    Query,
    ReadoutBlock,
    Text,
    Waveform,
)
from protocols.mrd_write import encode

META = "<ismrmrdMeta><meta><name>DataRole</name><value>Image</value></meta></ismrmrdMeta>"
XML = "<ismrmrdHeader>µ</ismrmrdHeader>"
GENERATOR = "ismrmrd_generate_cartesian_shepp_logan"
RECON = "ismrmrd_recon_cartesian_2d"

peers = [
    pytest.mark.peers,
    pytest.mark.skipif(
        shutil.which(GENERATOR) is None or shutil.which(RECON) is None,
        reason="Debian's ismrmrd-tools are not on this machine",
    ),
]
rng = np.random.default_rng(5)


def block(count, coils=3, samples=8, dims=0, first=0) -> ReadoutBlock:
    headers = np.zeros(count, ACQUISITION_HEADER)
    headers["version"] = 1
    headers["scan_counter"] = first + np.arange(count)
    headers["idx"]["kspace_encode_step_1"] = np.arange(count)
    headers["idx"]["user"][:, 5] = 7
    headers["read_dir"] = (0, 1, 0)
    headers["number_of_samples"] = samples
    headers["active_channels"] = coils
    headers["trajectory_dimensions"] = dims
    samples_ = rng.standard_normal((count, coils, samples, 2)).astype(np.float32)
    trajectory = rng.standard_normal((count, samples, dims)).astype(np.float32) if dims else None
    return ReadoutBlock(headers, samples_.view(np.complex64)[..., 0], trajectory)


def image(series=1, index=1, shape=(1, 1, 4, 5), dtype=np.uint16, attributes=META):
    header = np.zeros((), IMAGE_HEADER)
    header["version"], header["image_series_index"], header["image_index"] = 1, series, index
    data = np.arange(np.prod(shape)).reshape(shape) + index
    return ImageMessage(header[()], data.astype(dtype), attributes)


def waveform() -> Waveform:
    header = np.zeros((), WAVEFORM_HEADER)
    header["version"], header["waveform_id"], header["time_stamp"] = 1, 2, 99
    header["channels"], header["number_of_samples"] = 2, 5
    return Waveform(header[()], np.arange(10, dtype=np.uint32).reshape(2, 5))


def of(kind, messages):
    return [message for message in messages if isinstance(message, kind)]


class TestRoundTrip:
    def test_a_measurement_comes_back_in_the_order_of_a_session(self, tmp_path):
        sent = [
            ConfigFile("boreside"),
            HeaderText(XML),
            Text('{"parameters": {}}'),
            block(3),
            waveform(),
            Query(1, "is not kept"),
            image(),
            Close(),
        ]
        write_measurement(tmp_path / "m.h5", sent)
        got = list(read_measurement(tmp_path / "m.h5"))
        assert [type(m) for m in got] == [
            ConfigFile,
            HeaderText,
            Text,
            ReadoutBlock,
            Waveform,
            ImageMessage,
        ]
        assert got[:3] == sent[:3]
        np.testing.assert_array_equal(got[3].headers, sent[3].headers)
        np.testing.assert_array_equal(got[3].samples, sent[3].samples)
        np.testing.assert_array_equal(got[4].header, sent[4].header)
        np.testing.assert_array_equal(got[4].data, sent[4].data)
        np.testing.assert_array_equal(got[5].data, sent[6].data)
        assert got[5].attributes == META

    def test_blocks_hold_runs_of_one_shape(self, tmp_path):
        sent = [block(3, samples=16), block(4, first=3), block(2, dims=2, first=7)]
        write_measurement(tmp_path / "m.h5", [HeaderText(XML), *sent])
        got = of(ReadoutBlock, read_measurement(tmp_path / "m.h5", block_readouts=6))
        assert [b.samples.shape for b in got] == [(3, 3, 16), (3, 3, 8), (1, 3, 8), (2, 3, 8)]
        assert np.concatenate([b.headers["scan_counter"] for b in got]).tolist() == list(range(9))
        np.testing.assert_array_equal(got[3].trajectory, sent[2].trajectory)

    @pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4", "f4", "f8", "c8", "c16"])
    def test_images_of_every_type(self, tmp_path, dtype):
        sent = image(dtype=dtype, shape=(2, 3, 4, 5))
        write_images(tmp_path / "i.h5", [sent])
        (got,) = read_measurement(tmp_path / "i.h5")
        assert got.data.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got.data, sent.data)
        assert got.header["matrix_size"].tolist() == [5, 4, 3]

    def test_sizes_that_differ_within_a_series_go_to_a_further_group(self, tmp_path):
        path = tmp_path / "i.h5"
        write_images(path, [image(10), image(2, shape=(1, 1, 6, 7)), image(2, 1)])
        write_images(path, [image(2, 2)])
        got = list(read_measurement(path))
        assert [m.data.shape[2:] for m in got] == [(6, 7), (4, 5), (4, 5), (4, 5)]
        assert [int(m.header["image_series_index"]) for m in got] == [2, 2, 2, 10]

    def test_several_measurements_in_one_file(self, tmp_path):
        path = tmp_path / "m.h5"
        write_measurement(path, [HeaderText(XML), block(2)], group="t1")
        write_measurement(path, [ConfigText("<c/>"), HeaderText(XML), block(5)], group="t2")
        assert len(of(ReadoutBlock, read_measurement(path, "t2"))[0]) == 5
        with pytest.raises(FileFormatError, match=r"\['t1', 't2'\]"):
            list(read_measurement(path))
        with pytest.raises(FileFormatError, match="holds a measurement already"):
            write_measurement(path, [HeaderText(XML)], group="t1")


class TestIsmrmrdPackage:
    def test_reads_what_we_write(self, tmp_path):
        raw, wave, picture = block(4, dims=2), waveform(), image(3, dtype=np.complex64)
        write_measurement(tmp_path / "m.h5", [HeaderText(XML), raw, wave, picture])
        with ismrmrd.Dataset(tmp_path / "m.h5", mode="r") as dataset:
            assert dataset.read_xml_header().decode() == XML
            assert dataset.number_of_acquisitions() == 4
            readout = dataset.read_acquisition(2)
            assert bytes(readout.getHead()) == raw.headers[2].tobytes()
            np.testing.assert_array_equal(readout.data, raw.samples[2])
            np.testing.assert_array_equal(readout.traj, raw.trajectory[2])
            np.testing.assert_array_equal(dataset.read_waveform(0).data, wave.data)
            read = dataset.read_image("image_3", 0)
            np.testing.assert_array_equal(read.data, picture.data)
            assert dict(read.meta) == {"DataRole": "Image"}

    def test_writes_what_we_read(self, tmp_path):
        readouts = [
            ismrmrd.Acquisition.from_array(
                (rng.standard_normal((3, 8)) + 1j).astype(np.complex64), scan_counter=number
            )
            for number in range(5)
        ]
        picture = ismrmrd.Image.from_array(rng.standard_normal((2, 6, 7)).astype(np.float32))
        picture.image_series_index = 4
        picture.attribute_string = META
        with ismrmrd.Dataset(tmp_path / "m.h5") as dataset:
            dataset.write_xml_header(XML.encode())
            for readout in readouts:
                dataset.append_acquisition(readout)
            dataset.append_image("image_4", picture)
        header, read, read_picture = read_measurement(tmp_path / "m.h5")
        assert header == HeaderText(XML)
        np.testing.assert_array_equal(read.samples, [readout.data for readout in readouts])
        assert read.headers[3].tobytes() == bytes(readouts[3].getHead())
        np.testing.assert_array_equal(read_picture.data, picture.data)
        assert parse_meta(read_picture.attributes) == {"DataRole": "Image"}


class TestCppTools:
    pytestmark = peers

    def generate(self, path, *options):
        command = [GENERATOR, "-m", "32", "-c", "4", "-o", str(path), *options]
        subprocess.run(command, check=True, capture_output=True)

    def test_reads_the_generator_s_file(self, tmp_path):
        self.generate(tmp_path / "shepp.h5", "-C")
        header, *blocks = read_measurement(tmp_path / "shepp.h5")
        assert encodings(parse_header(header.xml))[0].encoded_matrix == (64, 32, 1)
        noise = blocks[0].headers["flags"] & np.uint64(AcquisitionFlag.IS_NOISE_MEASUREMENT)
        assert noise[0] and not noise[1:].any()
        assert sum(map(len, blocks)) == 33
        with ismrmrd.Dataset(tmp_path / "shepp.h5", mode="r") as dataset:
            expected = [dataset.read_acquisition(number).data for number in range(33)]
        np.testing.assert_array_equal(np.concatenate([b.samples for b in blocks]), expected)

    def test_reads_trajectories(self, tmp_path):
        self.generate(tmp_path / "shepp.h5", "-k")
        _, read = read_measurement(tmp_path / "shepp.h5")
        assert read.trajectory.shape == (32, 64, 2)

    def test_its_reconstruction_reads_what_we_write_and_we_read_its_images(self, tmp_path):
        self.generate(tmp_path / "theirs.h5")
        write_measurement(tmp_path / "ours.h5", read_measurement(tmp_path / "theirs.h5"))
        results = []
        for name in ("theirs.h5", "ours.h5"):
            subprocess.run([RECON, tmp_path / name], check=True, capture_output=True)
            results.append(of(ImageMessage, read_measurement(tmp_path / name)))
        (theirs,), (ours,) = results
        assert theirs.data.shape == (1, 1, 32, 32)
        np.testing.assert_array_equal(ours.data, theirs.data)


class TestOtherFiles:
    def test_a_recorded_stream_is_read_too(self, tmp_path):
        sent = [HeaderText(XML), block(3), Close()]
        raw = b"".join(b"".join(encode(m)) for m in sent)
        (tmp_path / "stream.mrd").write_bytes(raw)
        header, read = open_measurement(tmp_path / "stream.mrd")
        assert header == HeaderText(XML)
        np.testing.assert_array_equal(read.samples, sent[1].samples)

    def test_hdf5_and_stream_give_the_same(self, tmp_path):
        sent = [HeaderText(XML), block(3)]
        write_measurement(tmp_path / "m.h5", sent)
        stream = b"".join(b"".join(encode(m)) for m in open_measurement(tmp_path / "m.h5"))
        _, read = Reader(io.BytesIO(stream))
        np.testing.assert_array_equal(read.headers, sent[1].headers)

    def test_a_stream_that_breaks_off_says_so_after_what_is_whole(self, tmp_path):
        raw = b"".join(b"".join(encode(m)) for m in (HeaderText(XML), block(2)))
        (tmp_path / "cut.mrd").write_bytes(raw[:-1])
        messages = open_measurement(tmp_path / "cut.mrd")
        assert next(messages) == HeaderText(XML)
        assert len(next(messages)) == 1
        with pytest.raises(TruncatedStream):
            next(messages)

    @pytest.mark.parametrize("raw", [b"", b"\x03", b"PK\x03\x04 a zip file"])
    def test_other_bytes_are_named(self, tmp_path, raw):
        (tmp_path / "x").write_bytes(raw)
        with pytest.raises(FileFormatError, match="ISMRMRD HDF5 or a stream"):
            list(open_measurement(tmp_path / "x"))
        with pytest.raises(FileFormatError, match="expected ISMRMRD HDF5"):
            list(read_measurement(tmp_path / "x"))

    def test_hdf5_without_a_measurement_is_named(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("other/thing", data=[1])
        with pytest.raises(FileFormatError, match="thing"):
            list(read_measurement(tmp_path / "x.h5"))
        with pytest.raises(FileFormatError, match="expected group 'dataset'"):
            list(read_measurement(tmp_path / "x.h5", "dataset"))

    def test_sizes_that_contradict_the_header_are_named(self, tmp_path):
        write_measurement(tmp_path / "m.h5", [HeaderText(XML), block(2)])
        with h5py.File(tmp_path / "m.h5", "r+") as file:
            row = file["dataset/data"][1]
            row["head"]["active_channels"] = 99
            file["dataset/data"][1] = row
        with pytest.raises(FileFormatError, match=r"shape \(99, 16\)"):
            list(read_measurement(tmp_path / "m.h5"))
