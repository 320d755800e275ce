"""`boreside keys`, and who is let in by the keys."""

import stat

import pytest
from typer.testing import CliRunner

from agent import control_keys
from agent.keys_cli import app


def boreside_keys(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_keys_are_made_and_shown(tmp_path):
    folder = tmp_path / "keys"
    assert boreside_keys("make", "--folder", folder).exit_code == 0
    made = boreside_keys("make", "bay-2", "--folder", folder)
    assert made.exit_code == 0
    assert "bay-2.key_secret" in made.stdout
    public, secret = control_keys.agent_pair(folder)
    ((scanner, name),) = control_keys.admitted(folder).items()
    assert name == "bay-2"
    assert len({public, secret, scanner}) == 3
    shown = boreside_keys("show", "--folder", folder).stdout
    assert shown.splitlines() == [
        f"{public.decode()} agent",
        f"{scanner.decode()} bay-2 (admitted)",
    ]
    assert secret.decode() not in shown


def test_secret_keys_are_their_owners(tmp_path):
    secret = control_keys.make(tmp_path / "keys")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700


def test_a_key_is_never_overwritten(tmp_path):
    control_keys.make(tmp_path)
    before = control_keys.agent_pair(tmp_path)
    again = boreside_keys("make", "--folder", tmp_path)
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert control_keys.agent_pair(tmp_path) == before


@pytest.mark.parametrize("name", ["", "../agent", "a b", "Bay", ".hidden"])
def test_a_name_is_no_path(tmp_path, name):
    with pytest.raises(control_keys.KeyFileError, match="expected a name"):
        control_keys.make(tmp_path, name)


def test_the_agent_does_not_admit_itself(tmp_path):
    control_keys.make(tmp_path)
    assert control_keys.admitted(tmp_path) == {}


def test_what_is_no_key_admits_nobody(tmp_path):
    control_keys.make(tmp_path, "bay-2")
    admitted = tmp_path / "admitted"
    (admitted / "empty.key").write_bytes(b"")
    (admitted / "short.key").write_text('curve\n    public-key = "abc"\n')
    (admitted / "folder.key").mkdir()
    assert list(control_keys.admitted(tmp_path).values()) == ["bay-2"]
    (admitted / "bay-2.key").unlink()
    assert control_keys.admitted(tmp_path) == {}


def test_without_keys_it_says_what_to_do(tmp_path):
    shown = boreside_keys("show", "--folder", tmp_path)
    assert shown.exit_code == 1
    assert "boreside keys make" in shown.stderr
