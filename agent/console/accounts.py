"""Accounts and sessions of the console: SQLite, passwords as scrypt hashes, tokens as SHA-256.

Nothing that lies on the disk lets anybody in.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from agent.console.settings import Role
from agent.database import opened

SHORTEST = 10
_N, _R, _P = 1 << 15, 8, 1
"""OWASP's recommendation for scrypt: 32 MiB and about a tenth of a second."""
ATTEMPTS, PAUSE_S = 5, 60.0
"""Wrong passwords of one account, after which it is closed for so long."""


class AccountError(ValueError):
    """An account cannot be made: what was expected."""


class TooManyAttempts(Exception):
    """Wrong passwords in a row: nobody gets in for a while."""


@dataclass(frozen=True)
class Account:
    """Somebody who may log in."""

    name: str
    role: Role


class Accounts:
    """The accounts of one site.

    Parameters
    ----------
    file : Path
        SQLite file; made where there is none.
    """

    def __init__(self, file: Path) -> None:
        self._file = opened(
            file,
            "CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, role TEXT NOT NULL,"
            " password TEXT NOT NULL);"
            "CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, name TEXT NOT NULL,"
            " ends_s REAL NOT NULL);",
        )
        self._wrong: dict[str, list[float]] = {}
        self._nobody = _hash(secrets.token_hex(16))

    def put(self, name: str, role: Role, password: str) -> None:
        """Make an account, or give one a new role and password; its sessions end.

        Raises
        ------
        AccountError
        """
        if not 1 <= len(name) <= 64 or not name.isprintable() or name != name.strip():
            raise AccountError(f"expected a name of 1 to 64 printable characters, got {name!r}")
        if len(password) < SHORTEST:
            raise AccountError(f"expected a password of at least {SHORTEST} characters")
        self._file.execute("DELETE FROM sessions WHERE name = ?", (name,))
        self._file.execute(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?)", (name, role, _hash(password))
        )

    def remove(self, name: str) -> bool:
        """Remove an account and end its sessions; False where there is none."""
        self._file.execute("DELETE FROM sessions WHERE name = ?", (name,))
        return bool(self._file.execute("DELETE FROM accounts WHERE name = ?", (name,)).rowcount)

    def all(self) -> list[Account]:
        """Return all accounts, by name."""
        found = self._file.execute("SELECT name, role FROM accounts ORDER BY name")
        return [Account(name, Role(role)) for name, role in found]

    def check(self, name: str, password: str) -> Account | None:
        """Return the account of a name and password; None where one of them is wrong.

        Raises
        ------
        TooManyAttempts
        """
        now = time.monotonic()
        wrong = [at for at in self._wrong.get(name, ()) if now - at < PAUSE_S]
        if len(wrong) >= ATTEMPTS:
            raise TooManyAttempts
        found = self._file.execute(
            "SELECT role, password FROM accounts WHERE name = ?", (name,)
        ).fetchone()
        # A name that does not exist takes as long as a wrong password.
        right = _matches(password, found[1] if found else self._nobody) and found is not None
        if not right:
            if len(self._wrong) > 1000:
                self._wrong.clear()
            self._wrong[name] = [*wrong, now]
            return None
        self._wrong.pop(name, None)
        return Account(name, Role(found[0]))

    def begin(self, account: Account, hours: float) -> str:
        """Begin a session; returns its token."""
        token = secrets.token_urlsafe(32)
        now = time.time()
        self._file.execute("DELETE FROM sessions WHERE ends_s < ?", (now,))
        self._file.execute(
            "INSERT INTO sessions VALUES (?, ?, ?)",
            (_token(token), account.name, now + 3600 * hours),
        )
        return token

    def of(self, token: str) -> Account | None:
        """Return whose session it is; None where it is over, or never was."""
        found = self._file.execute(
            "SELECT accounts.name, role FROM sessions JOIN accounts USING (name) "
            "WHERE token = ? AND ends_s > ?",
            (_token(token), time.time()),
        ).fetchone()
        return Account(found[0], Role(found[1])) if found else None

    def end(self, token: str) -> None:
        """End a session."""
        self._file.execute("DELETE FROM sessions WHERE token = ?", (_token(token),))


def _token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _hash(password: str) -> str:
    salt = secrets.token_bytes(16)
    found = _scrypt(password, salt, _N, _R, _P)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${found.hex()}"


def _matches(password: str, stored: str) -> bool:
    _, n, r, p, salt, found = stored.split("$")
    there = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(there, bytes.fromhex(found))
