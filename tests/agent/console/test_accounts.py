"""Accounts, sessions and settings of the console."""

import pytest

from agent.console import accounts as module
from agent.console.accounts import AccountError, Accounts, TooManyAttempts
from agent.console.settings import ConsoleSettings, Role

PASSWORD = "correct horse"


@pytest.fixture
def accounts(tmp_path):
    made = Accounts(tmp_path / "accounts.sqlite")
    made.put("anna", Role.TECHNOLOGIST, PASSWORD)
    return made


def test_only_name_and_password_together_let_in(accounts):
    assert accounts.check("anna", PASSWORD).role is Role.TECHNOLOGIST
    assert accounts.check("anna", "wrong horse") is None
    assert accounts.check("ben", PASSWORD) is None


def test_wrong_passwords_in_a_row_close_the_account_for_a_while(accounts):
    for _ in range(module.ATTEMPTS):
        accounts.check("anna", "wrong horse")
    with pytest.raises(TooManyAttempts):
        accounts.check("anna", PASSWORD)


def test_sessions_end_by_time_by_logout_and_with_the_account(accounts):
    account = accounts.check("anna", PASSWORD)
    over, out, gone = accounts.begin(account, -1), accounts.begin(account, 1), None
    gone = accounts.begin(account, 1)
    assert accounts.of(over) is None
    assert accounts.of(out) == account
    accounts.end(out)
    assert accounts.of(out) is None
    accounts.put("anna", Role.VIEWER, PASSWORD)
    assert accounts.of(gone) is None
    assert accounts.of("no token") is None


def test_neither_passwords_nor_tokens_lie_on_the_disk(accounts, tmp_path):
    token = accounts.begin(accounts.check("anna", PASSWORD), 1)
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert PASSWORD.encode() not in raw and token.encode() not in raw
    assert (tmp_path / "accounts.sqlite").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("name", "password"), [("", PASSWORD), ("a\n", PASSWORD), ("a", "short")])
def test_what_is_no_account_is_refused(accounts, name, password):
    with pytest.raises(AccountError):
        accounts.put(name, Role.VIEWER, password)


def test_outside_the_machine_only_with_login_and_tls(tmp_path):
    with pytest.raises(ValueError, match="TLS"):
        ConsoleSettings(host="0.0.0.0")
    tls = {"certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
    assert ConsoleSettings(host="0.0.0.0", **tls).guest is None
    with pytest.raises(ValueError, match="loopback"):
        ConsoleSettings(host="0.0.0.0", guest=Role.VIEWER, **tls)
    with pytest.raises(ValueError, match="together"):
        ConsoleSettings(certificate=tmp_path / "c.pem")
