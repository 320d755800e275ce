"""Weights are what their manifest says, or they are refused."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from engines.errors import EngineUnavailable, WeightsRefused
from engines.manifest import Limits, Manifest, parse_manifest, sealed
from engines.store import Plan, PlanCache, Store


def _flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_weights_come_with_their_manifest_and_golden_vector(tmp_path, tiny_network):
    tiny_network.write(tmp_path / "site", limits=Limits(snr=(2, 50)))
    weights = Store(site=tmp_path / "site").open("tiny", "1.0")
    assert weights.manifest.limits.snr == (2, 50)
    assert weights.origin == "site" and not weights.signed
    inputs, outputs = weights.golden()
    np.testing.assert_allclose(
        outputs["planes"], tiny_network.smoothed(inputs["planes"]), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "card.md"])
def test_a_changed_byte_is_refused(tmp_path, tiny_network, name):
    folder = tiny_network.write(tmp_path)
    _flip(folder / name)
    with pytest.raises(WeightsRefused, match=rf"{name}: expected SHA-256 .*, found"):
        Store(site=tmp_path).open("tiny")


def test_a_changed_manifest_is_refused(tmp_path, tiny_network):
    manifest = tiny_network.write(tmp_path) / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["limits"]["snr"] = [0, 1e9]
    manifest.write_text(json.dumps(fields))
    with pytest.raises(WeightsRefused, match="was changed after it was written"):
        Store(site=tmp_path).open("tiny")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"name": "tiny"}', b"\xff"])
def test_what_is_no_manifest_is_refused(tmp_path, tiny_network, text):
    (tiny_network.write(tmp_path) / "manifest.json").write_bytes(text)
    with pytest.raises(WeightsRefused):
        Store(site=tmp_path).open("tiny")


def test_a_missing_file_is_refused(tmp_path, tiny_network):
    (tiny_network.write(tmp_path) / "card.md").unlink()
    with pytest.raises(WeightsRefused, match=r"card\.md"):
        Store(site=tmp_path).open("tiny")


def test_files_outside_the_folder_are_refused(tmp_path, tiny_network):
    folder = tiny_network.write(tmp_path)
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    outside = Manifest.model_construct(
        **{**dict(manifest), "files": {"../model.onnx": "0" * 64, **manifest.files}}
    )
    (folder / "manifest.json").write_bytes(sealed(outside))
    with pytest.raises(WeightsRefused, match="pattern"):
        Store(site=tmp_path).open("tiny")


def test_weights_in_a_folder_of_another_name_are_refused(tmp_path, tiny_network):
    tiny_network.write(tmp_path).rename(tmp_path / "tiny" / "2.0")
    with pytest.raises(WeightsRefused, match=r"calls it tiny 1\.0"):
        Store(site=tmp_path).open("tiny")


def test_the_newest_version_counts_by_number_not_by_text(tmp_path, tiny_network):
    for version in ("1.9", "1.10", "1.2"):
        tiny_network.write(tmp_path, version=version)
    store = Store(site=tmp_path, shipped=tmp_path / "none")
    assert store.open("tiny").manifest.version == "1.10"
    assert [found.version for found in store.networks()] == ["1.10", "1.9", "1.2"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(EngineUnavailable, match="no weights of that name and version"):
        Store(site=tmp_path).open("nothing")


def test_the_list_says_what_is_wrong(tmp_path, tiny_network):
    tiny_network.write(tmp_path, name="good")
    _flip(tiny_network.write(tmp_path, name="bad") / "card.md")
    bad, good = Store(site=tmp_path, shipped=tmp_path / "none").networks()
    assert (bad.name, good.name) == ("bad", "good")
    assert "card.md" in bad.problem and bad.manifest is None
    assert good.problem == "" and good.manifest is not None


class TestAdd:
    def test_added_weights_can_be_opened(self, tmp_path, tiny_network):
        folder = tiny_network.write(tmp_path / "download", version="3.1")
        store = Store(site=tmp_path / "site")
        store.add(folder)
        added = store.open("tiny", "3.1")
        assert added.files == {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_damaged_weights_are_not_added(self, tmp_path, tiny_network):
        folder = tiny_network.write(tmp_path / "download")
        _flip(folder / "model.onnx")
        store = Store(site=tmp_path / "site")
        with pytest.raises(WeightsRefused):
            store.add(folder)
        assert not (tmp_path / "site").exists()

    def test_a_version_is_never_replaced(self, tmp_path, tiny_network):
        folder = tiny_network.write(tmp_path / "download")
        store = Store(site=tmp_path / "site")
        store.add(folder)
        with pytest.raises(ValueError, match="is there already"):
            store.add(folder)

    def test_without_a_site_folder_there_is_nowhere_to_add(self, tmp_path, tiny_network):
        with pytest.raises(ValueError, match="no folder"):
            Store().add(tiny_network.write(tmp_path))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Folder with the Ed25519 keys of a site and of somebody else."""
    pytest.importorskip("cryptography", reason="needs cryptography, of the extra signed")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("site", "other"):
        private, public = folder / f"{name}.pem", folder / f"{name}.pub"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return folder


class TestSignature:
    """Signed with the openssl command, as a site would."""

    def _sign(self, folder, key):
        manifest, signature = folder / "manifest.json", folder / "manifest.sig"
        command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", manifest]
        subprocess.run([*command, "-out", signature], check=True)

    def test_signed_weights_are_taken(self, tmp_path, tiny_network, keys):
        self._sign(tiny_network.write(tmp_path), keys / "site.pem")
        assert Store(site=tmp_path, public_key=keys / "site.pub").open("tiny").signed

    def test_another_signature_is_refused(self, tmp_path, tiny_network, keys):
        self._sign(tiny_network.write(tmp_path), keys / "other.pem")
        with pytest.raises(WeightsRefused, match=r"manifest\.sig is not by the key"):
            Store(site=tmp_path, public_key=keys / "site.pub").open("tiny")

    def test_no_signature_is_refused_from_a_site(self, tmp_path, tiny_network, keys):
        tiny_network.write(tmp_path)
        with pytest.raises(WeightsRefused, match=r"expected manifest\.sig"):
            Store(site=tmp_path, public_key=keys / "site.pub").open("tiny")

    def test_shipped_weights_need_none(self, tmp_path, tiny_network, keys):
        tiny_network.write(tmp_path)
        store = Store(shipped=tmp_path, public_key=keys / "site.pub")
        assert not store.open("tiny").signed

    def test_weights_are_added_with_their_signature_and_not_without(
        self, tmp_path, tiny_network, keys
    ):
        folder = tiny_network.write(tmp_path / "download")
        store = Store(site=tmp_path / "site", public_key=keys / "site.pub")
        with pytest.raises(WeightsRefused, match=r"expected manifest\.sig"):
            store.add(folder)
        self._sign(folder, keys / "site.pem")
        store.add(folder)
        assert store.open("tiny").signed

    def test_a_changed_byte_is_refused_in_signed_weights_too(self, tmp_path, tiny_network, keys):
        folder = tiny_network.write(tmp_path)
        self._sign(folder, keys / "site.pem")
        _flip(folder / "model.onnx")
        with pytest.raises(WeightsRefused, match=r"model\.onnx: expected SHA-256"):
            Store(site=tmp_path, public_key=keys / "site.pub").open("tiny")

    def test_a_key_that_is_none_is_refused(self, tmp_path, tiny_network, keys):
        self._sign(tiny_network.write(tmp_path), keys / "site.pem")
        with pytest.raises(WeightsRefused, match="public key"):
            Store(site=tmp_path, public_key=keys / "nowhere.pub").open("tiny")


KEY = {"weights": "a", "gpu": "one", "driver": "1"}


class TestPlanCache:
    def test_a_plan_is_found_by_what_it_depends_on(self, tmp_path):
        cache = PlanCache(tmp_path / "plans")
        assert cache.find({}) == []
        plan = Plan({**KEY, "profile": "static"}, {"inputs": ["planes"]}, b"plan")
        cache.put(plan)
        cache.put(Plan({**KEY, "gpu": "two", "profile": "static"}, {}, b"other"))
        assert cache.find(KEY) == [plan]
        assert cache.find({**KEY, "driver": "2"}) == []

    def test_a_changed_plan_is_not_found(self, tmp_path):
        cache = PlanCache(tmp_path / "plans")
        _flip(cache.put(Plan(KEY, {}, b"plan")))
        assert cache.find(KEY) == []

    def test_a_folder_that_others_can_write_to_is_refused(self, tmp_path):
        cache = PlanCache(tmp_path / "plans")
        cache.put(Plan(KEY, {}, b"plan"))
        cache.folder.chmod(0o777)
        with pytest.raises(PermissionError, match="no other can write to"):
            cache.find(KEY)
