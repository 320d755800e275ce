"""TLS and mutual TLS of the MRD port, and the allow-list of scanners."""

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from agent.config import SettingsError, load
from agent.server import Server
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage, Query, Response
from protocols.mrd_write import write


class Authority:
    """An authority and the certificates that it signs, as PEM files of a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        made = self._certificate(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), True
        )
        certificate = made.sign(self._key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def _certificate(self, name: x509.Name, key: ec.EllipticCurvePrivateKey):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=90))
        )

    def sign(self, name: str, dns: str | None = None) -> tuple[Path, Path]:
        """Return the files of a new certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = [address, *([x509.DNSName(dns)] if dns else [])]
        made = made.add_extension(x509.SubjectAlternativeName(names), False)
        certificate = made.sign(self._key, hashes.SHA256())
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files[1].write_bytes(secret)
        return files


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls(authority) -> dict:
    certificate, key = authority.sign("agent")
    return {"certificate": certificate, "key": key}


def client(authority: Authority, files=None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if files:
        context.load_cert_chain(*files)
    return context


def exchange(agent, context: ssl.SSLContext, *messages) -> list:
    with (
        agent.connect() as peer,
        context.wrap_socket(peer, server_hostname="127.0.0.1") as end,
    ):
        write(end.makefile("wb", buffering=0), *messages)
        return list(Reader(end.makefile("rb", buffering=0)))


def test_a_measurement_over_tls_is_the_same_as_in_plain(start, scan, authority, tls):
    agent = start(listen={"tls": tls})
    sent = (ConfigFile("simplefft"), scan.header, scan.readouts, Close())
    image, close = exchange(agent, client(authority), *sent)
    assert isinstance(image, ImageMessage) and close == Close()
    plain = start().exchange(*sent).images[0]
    assert (image.data == plain.data).all()
    agent.stop()
    assert [state["outcome"] for state in agent.states()] == ["delivered"] * len(agent.states())


def test_much_data_passes_both_ways(start, authority, tls):
    agent = start(listen={"tls": tls})
    queries = [Query(n, "boreside::info") for n in range(5000)]
    *answers, close = exchange(agent, client(authority), *queries, Close())
    assert [answer.correlation_id for answer in answers] == list(range(5000))
    assert all(isinstance(answer, Response) for answer in answers) and close == Close()


def test_who_speaks_plain_mrd_gets_nothing(start, authority, tls):
    agent = start(listen={"tls": tls})
    with agent.connect() as peer:
        peer.settimeout(20)
        write(peer.makefile("wb", buffering=0), Query(1, "boreside::alive"), Close())
        try:
            answer = peer.makefile("rb", buffering=0).read(1 << 16)
        except ConnectionError:
            answer = b""
    assert b"alive" not in answer
    assert exchange(agent, client(authority), Close()) == [Close()]


def test_mutual_tls_admits_named_scanners_only(start, authority, tls, tmp_path):
    agent = start(listen={"tls": {**tls, "client_ca": authority.file, "names": ["bay-2"]}})
    ask = Query(1, "boreside::alive"), Close()
    for files in (authority.sign("bay-2"), authority.sign("scanner", dns="bay-2")):
        assert exchange(agent, client(authority, files), *ask)[0] == Response(1, "alive")
    other = tmp_path / "other"
    other.mkdir()
    # A common name does not count where there are DNS names.
    for files in (
        None,
        authority.sign("bay-3"),
        authority.sign("bay-2", dns="bay-3"),
        Authority(other, "impostor").sign("bay-2"),
    ):
        with pytest.raises((OSError, EOFError, AssertionError)):
            assert exchange(agent, client(authority, files), *ask)


def test_a_scanner_that_vanishes_leaves_nothing_running(start, scan, authority, tls):
    agent = start(listen={"tls": tls})
    with agent.connect() as peer:
        end = client(authority).wrap_socket(peer, server_hostname="127.0.0.1")
        write(end.makefile("wb", buffering=0), ConfigFile("simplefft"), scan.header)
        end.close()
    agent.stop()


def test_only_listed_addresses_connect(start):
    agent = start(listen={"scanners": ["192.0.2.0/24"]})
    with agent.connect() as peer:
        peer.settimeout(20)
        assert peer.recv(1) == b""
    agent.stop()
    agent = start(listen={"scanners": ["192.0.2.0/24", "127.0.0.1"]})
    assert agent.exchange(Query(1, "boreside::alive"), Close()).responses == [Response(1, "alive")]


def test_wrong_files_and_names_without_authority_are_named_errors(tmp_path, tls):
    with pytest.raises(SettingsError, match=r"listen\.tls: expected PEM files"):
        Server(load(listen={"port": 0, "tls": {**tls, "key": tmp_path / "none"}}))
    with pytest.raises(SettingsError, match="client_ca"):
        load(listen={"tls": {**tls, "names": ["bay-2"]}})
    with pytest.raises(SettingsError, match="scanners"):
        load(listen={"scanners": ["bay-2"]})


def test_doctor_looks_at_the_certificate(tmp_path, tls, monkeypatch):
    from agent.doctor_stores import tls as check

    found = {c.name: c for c in check(load(listen={"tls": tls}).listen)}
    assert found["tls certificate"].verdict == "ok"
    assert found["tls key"].verdict == "warning" and "chmod 600" in found["tls key"].mend
    assert next(check(load(listen={"host": "0.0.0.0"}).listen)).verdict == "warning"


def test_a_silent_peer_does_not_hold_the_listener(start, authority, tls):
    agent = start(listen={"tls": tls})
    with socket.create_connection(agent.server.address):
        assert exchange(agent, client(authority), Close()) == [Close()]
