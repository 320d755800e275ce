"""CURVE keys of the control channel: ZeroMQ certificate files in one folder.

    keys/agent.key, agent.key_secret      the agent's pair
    keys/admitted/*.key                   public keys of the scanners that may connect

A scanner is admitted from the moment its key lies in ``admitted``, and no longer when it is gone.
A key is 40 characters (Z85); the format is that of czmq and pyzmq.
"""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import zmq.auth

AGENT = "agent"
ADMITTED = "admitted"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class KeyFileError(Exception):
    """A key file cannot be made or read: which one, what was expected, what to do."""


def make(folder: Path, name: str = AGENT) -> Path:
    """Make a pair of keys, and admit it where it is not the agent's.

    Parameters
    ----------
    folder : Path
    name : str
        `AGENT`, or a scanner's.

    Returns
    -------
    Path
        Of the secret key, readable to its owner only. A scanner's goes to the scanner, and is then
        to be deleted here.

    Raises
    ------
    KeyFileError
        The name is none, or there is such a key already.
    """
    if not NAME.fullmatch(name):
        raise KeyFileError(f"expected a name of a-z, 0-9, - and _, got {name!r}")
    admitted = folder / ADMITTED
    secret = folder / f"{name}.key_secret"
    try:
        for each in (folder, admitted):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        for public in (folder, admitted):
            if (public / f"{name}.key").exists():
                raise KeyFileError(f"{public / name}.key is there already: delete it first")
        # The file is there, and private, before the key is written into it.
        os.close(os.open(secret, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        zmq.auth.create_certificates(folder, name)
        if name != AGENT:
            shutil.copyfile(folder / f"{name}.key", admitted / f"{name}.key")
    except OSError as error:
        raise KeyFileError(f"{secret}: cannot make keys: {error.strerror}") from None
    return secret


def agent_pair(folder: Path) -> tuple[bytes, bytes]:
    """Return the public and the secret key of the agent.

    Raises
    ------
    KeyFileError
    """
    path = folder / f"{AGENT}.key_secret"
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError):
        public, secret = b"", None
    if len(public) != 40 or secret is None or len(secret) != 40:
        raise KeyFileError(f"{path}: expected a pair of CURVE keys: run `boreside keys make`")
    return public, secret


def admitted(folder: Path) -> dict[bytes, str]:
    """Return the public keys of the scanners that may connect, with their names.

    Files which are no keys admit nobody.
    """
    found = {}
    for path in sorted((folder / ADMITTED).glob("*.key")):
        try:
            public, _ = zmq.auth.load_certificate(path)
        except (OSError, ValueError):
            continue
        if len(public) == 40:
            found[public] = path.stem
    return found


class Admission:
    """Whom pyzmq's authenticator lets in: scanners whose keys lie in ``admitted`` at that moment.

    Parameters
    ----------
    folder : Path
    ignored : Counter
        Where refusals are counted, as "wrong key".
    """

    def __init__(self, folder: Path, ignored: Counter[str]) -> None:
        self._folder = folder
        self._ignored = ignored

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether a scanner with this public key may connect."""
        known = key in admitted(self._folder)
        if not known:
            self._ignored["wrong key"] += 1
        return known
