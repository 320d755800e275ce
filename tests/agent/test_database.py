"""SQLite files of the agent: nobody else can read them, and all threads may use them."""

import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from agent.database import opened

SCHEMA = "CREATE TABLE IF NOT EXISTS things (name TEXT)"


def test_only_its_user_can_read_it_and_what_sqlite_puts_beside_it(tmp_path):
    connection = opened(tmp_path / "of" / "agent.sqlite", SCHEMA)
    connection.execute("INSERT INTO things VALUES ('patient')")
    files = list((tmp_path / "of").iterdir())
    assert {file.suffix for file in files} == {".sqlite", ".sqlite-wal", ".sqlite-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    connection.close()


def test_it_is_there_when_opened_again_and_from_another_thread(tmp_path):
    path = tmp_path / "agent.sqlite"
    first = opened(path, SCHEMA)
    first.execute("INSERT INTO things VALUES ('a')")
    first.close()
    second, found = opened(path, SCHEMA), []
    reader = threading.Thread(target=lambda: found.extend(second.execute("SELECT * FROM things")))
    reader.start()
    reader.join()
    assert found == [("a",)]
    second.close()


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "agent.sqlite").write_text("patients: none")
    with pytest.raises(sqlite3.DatabaseError):
        opened(tmp_path / "agent.sqlite", SCHEMA)


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM things").fetchone()[0])
connection.close()
"""


def test_opening_it_twice_in_a_process_costs_nothing_that_was_written(tmp_path):
    """Another process that closes must not take the first one's log for nobody's."""
    path = tmp_path / "agent.sqlite"
    first = opened(path, SCHEMA)
    first.execute("INSERT INTO things VALUES ('a')")
    second = opened(path, SCHEMA)
    seen = []
    for name in ("b", "c"):
        reader = [sys.executable, "-c", READER, path]
        done = subprocess.run(reader, capture_output=True, text=True, check=True)
        seen.append(int(done.stdout))
        first.execute("INSERT INTO things VALUES (?)", name)
    first.close()
    second.close()
    assert seen == [1, 2]
