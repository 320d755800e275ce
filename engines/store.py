"""Where weights live: the folder that ships with the agent, and a site's own.

One network is one folder, `<name>/<version>/`, with

- `manifest.json` (`engines.manifest`): what the network is, and the SHA-256 of all that follows;
- `model.onnx`, weights inside; `golden.npz`, one input and its output, to prove a runtime right;
- `weights.npz`, where PyTorch or TensorRT are to run it: its parameters by their name in the module
  which `engines.nets` builds;
- `card.md`: what it was trained on, what is known of where it fails;
- `manifest.sig`, optional: the Ed25519 signature (64 bytes) of `manifest.json`, as of
  ``openssl pkeyutl -sign -rawin -inkey private.pem -in manifest.json -out manifest.sig``.

Every file is read once, hashed, and used as it was hashed. Nothing here is pickled.
"""

import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.errors import EngineUnavailable, WeightsRefused
from engines.manifest import Manifest, parse_manifest, sealed

SHIPPED = Path(__file__).parent / "weights"

_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"
_NEEDED = {"model.onnx", "golden.npz", "card.md"}


@dataclass(frozen=True)
class Weights:
    """One network, read and verified.

    Attributes
    ----------
    manifest : Manifest
    origin : str
        "shipped" or "site".
    signed : bool
        Its signature was verified.
    files : dict
        Content by file name.
    """

    manifest: Manifest
    origin: str
    signed: bool
    files: dict[str, bytes]

    def golden(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the golden vector: inputs and outputs, by name."""
        arrays = arrays_of(self.files["golden.npz"])
        inputs = {key[6:]: value for key, value in arrays.items() if key.startswith("input_")}
        outputs = {key[7:]: value for key, value in arrays.items() if key.startswith("output_")}
        return inputs, outputs


@dataclass(frozen=True)
class Listed:
    """One network of the store; ``problem`` is empty where it may be used."""

    name: str
    version: str
    origin: str
    folder: Path
    manifest: Manifest | None
    signed: bool
    problem: str


@dataclass(frozen=True)
class Store:
    """Shipped weights and a site's own.

    Attributes
    ----------
    site : Path or None
        Folder of the site's weights.
    public_key : Path or None
        Ed25519 public key (PEM). Where it is set, a site's weights need a signature by it; shipped
        weights are verified where they carry one.
    plans : Path or None
        Folder of compiled engines (`PlanCache`) [default: of the user's cache].
    shipped : Path
    """

    site: Path | None = None
    public_key: Path | None = None
    plans: Path | None = None
    shipped: Path = SHIPPED

    def networks(self) -> list[Listed]:
        """Return every network that is there, with what is wrong with it."""
        found = []
        for origin, folder in self._folders():
            name, version = folder.parent.name, folder.name
            try:
                weights = self._read(folder, origin)
                found.append(
                    Listed(name, version, origin, folder, weights.manifest, weights.signed, "")
                )
            except WeightsRefused as error:
                found.append(Listed(name, version, origin, folder, None, False, error.reason))
        return found

    def open(self, name: str, version: str | None = None) -> Weights:
        """Read and verify a network; its newest version where none is named.

        Raises
        ------
        EngineUnavailable
            There is none of that name and version.
        WeightsRefused
            A file is missing or is not what the manifest says, or the signature is not.
        """
        fitting = [
            (origin, folder)
            for origin, folder in self._folders()
            if folder.parent.name == name and version in (None, folder.name)
        ]
        if not fitting:
            where = " and ".join(str(root) for root in (self.shipped, self.site) if root)
            raise EngineUnavailable(
                f"{name} {version or ''}".strip(),
                f"no weights of that name and version in {where}: `boreside engine list` shows"
                " what there is, `boreside engine add` adds some",
            )
        origin, folder = max(fitting, key=lambda found: _order(found[1].name))
        return self._read(folder, origin)

    def add(self, folder: Path) -> Weights:
        """Verify weights and copy them to the site's folder.

        Raises
        ------
        WeightsRefused
        ValueError
            No site folder is set, or there are weights of that name and version already.
        """
        if self.site is None:
            raise ValueError("no folder for the site's weights is set (engines.site)")
        weights = self._read(folder, "site", named=False)
        manifest = weights.manifest
        for _, present in self._folders():
            if (present.parent.name, present.name) == (manifest.name, manifest.version):
                raise ValueError(
                    f"{manifest.name} {manifest.version} is there already, in {present}: expected"
                    " a new version"
                )
        target = self.site / manifest.name / manifest.version
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".adding-", dir=target.parent))
        try:
            for name, content in weights.files.items():
                (part / name).write_bytes(content)
            part.chmod(0o755)
            part.rename(target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return weights

    def withdraw(self, name: str, version: str) -> None:
        """Take a version out of the site's folder; it stays there hidden, to be looked at.

        Raises
        ------
        EngineUnavailable
            The site has none of that name and version.
        """
        folder = (self.site or Path()) / name / version
        if self.site is None or not (folder / _MANIFEST).is_file():
            raise EngineUnavailable(f"{name} {version}", f"is not among the site's, {self.site}")
        hidden = Path(tempfile.mkdtemp(prefix=f".withdrawn-{version}-", dir=folder.parent))
        folder.rename(hidden)

    def _folders(self) -> list[tuple[str, Path]]:
        """Return (origin, folder) of all versions of all networks, the newest first."""
        found = [
            (origin, manifest.parent)
            for origin, root in (("shipped", self.shipped), ("site", self.site))
            if root is not None
            for manifest in root.glob(f"[!.]*/[!.]*/{_MANIFEST}")
        ]
        found.sort(key=lambda item: _order(item[1].name), reverse=True)
        return sorted(found, key=lambda item: item[1].parent.name)

    def _read(self, folder: Path, origin: str, named: bool = True) -> Weights:
        label = f"{folder.parent.name} {folder.name}" if named else str(folder)
        try:
            text = (folder / _MANIFEST).read_bytes()
            manifest = parse_manifest(text)
            if named and label != f"{manifest.name} {manifest.version}":
                raise ValueError(f"its manifest calls it {manifest.name} {manifest.version}")
            files = {name: (folder / name).read_bytes() for name in manifest.files}
        except (OSError, ValueError) as error:
            raise WeightsRefused(label, str(error)) from None
        if missing := _NEEDED - set(files):
            raise WeightsRefused(label, f"expected {', '.join(sorted(missing))} in its manifest")
        for name, content in files.items():
            expected, found = manifest.files[name], hashlib.sha256(content).hexdigest()
            if found != expected:
                raise WeightsRefused(
                    label,
                    f"{name}: expected SHA-256 {expected}, found {found}: the file was changed or"
                    " damaged, install it again",
                )
        files[_MANIFEST] = text
        signature = folder / _SIGNATURE
        if signature.is_file():
            files[_SIGNATURE] = signature.read_bytes()
        signed = self._verify_signature(label, files, needed=origin == "site")
        return Weights(manifest, origin, signed, files)

    def _verify_signature(self, label: str, files: dict[str, bytes], needed: bool) -> bool:
        if self.public_key is None:
            return False
        if _SIGNATURE not in files:
            if needed:
                raise WeightsRefused(
                    label, f"expected {_SIGNATURE}, by the key {self.public_key}, found none"
                )
            return False
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
            from cryptography.hazmat.primitives.serialization import load_pem_public_key
        except ImportError:
            raise WeightsRefused(
                label, "a public key is set, but the package cryptography is not installed"
            ) from None
        try:
            key = load_pem_public_key(self.public_key.read_bytes())
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError("expected an Ed25519 key")
        except (OSError, ValueError) as error:
            raise WeightsRefused(label, f"public key {self.public_key}: {error}") from None
        try:
            key.verify(files[_SIGNATURE], files[_MANIFEST])
        except InvalidSignature:
            raise WeightsRefused(
                label, f"{_SIGNATURE} is not by the key {self.public_key}"
            ) from None
        return True


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Hash all files of a folder into a manifest, and write `manifest.json` beside them.

    Parameters
    ----------
    folder : Path
        With `model.onnx`, `golden.npz`, `card.md` and what else belongs to the network.
    manifest : Manifest
        Its ``files`` are replaced.

    Returns
    -------
    Manifest
        As it was written.
    """
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (_MANIFEST, _SIGNATURE)
    }
    manifest = manifest.model_copy(update={"files": files})
    (folder / _MANIFEST).write_bytes(sealed(manifest))
    return manifest


def write_golden(
    path: Path, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> None:
    """Write a golden vector: inputs and outputs of the reference, by their names."""
    np.savez_compressed(
        path,
        allow_pickle=False,
        **{f"input_{name}": value for name, value in inputs.items()},
        **{f"output_{name}": value for name, value in outputs.items()},
    )


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file, by name."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def _order(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else (-1,)


@dataclass(frozen=True)
class Plan:
    """A compiled engine: what it depends on, what is needed to load it, and its content."""

    key: dict[str, str]
    notes: dict[str, Any]
    content: bytes


class PlanCache:
    """Compiled engines, kept by everything that they depend on.

    A plan may hold code for the host, so the folder must be the user's own: nobody else may be able
    to write to it. A plan is read only if it has the SHA-256 which was noted when it was built.

    Parameters
    ----------
    folder : Path or None
        By default below ``XDG_CACHE_HOME`` or `~/.cache`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.folder = folder or Path(cache) / "boreside" / "plans"

    def put(self, plan: Plan) -> Path:
        """Keep a plan, in place of one with the same key; returns its file."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_private()
        stem = _sha256(json.dumps(plan.key, sort_keys=True).encode())
        digest = _sha256(plan.content)
        described = {"key": plan.key, "notes": plan.notes, "sha256": digest}
        path = self.folder / f"{stem}.plan"
        for target, content in (
            (path, plan.content),
            (path.with_suffix(".json"), json.dumps(described, indent=2).encode()),
        ):
            part = target.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(content)
            part.replace(target)
        return path

    def find(self, key: Mapping[str, str]) -> list[Plan]:
        """Return the plans, unchanged since they were built, whose key contains ``key``.

        Raises
        ------
        PermissionError
            Others can write to the folder.
        """
        if not self.folder.is_dir():
            return []
        self._require_private()
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                described = json.loads(path.read_bytes())
                if key.items() <= described["key"].items():
                    content = path.with_suffix(".plan").read_bytes()
                    if described["sha256"] == _sha256(content):
                        found.append(Plan(described["key"], described["notes"], content))
            except (OSError, ValueError, KeyError):
                continue
        return found

    def _require_private(self) -> None:
        found = self.folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(
                f"{self.folder}: expected a folder of this user that no other can write to"
            )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
