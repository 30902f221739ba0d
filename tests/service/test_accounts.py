"""Accounts and tokens, in a real database, and the command that makes them."""

import subprocess
from collections.abc import Iterator

import pytest
from tests.service.conftest import COMMAND, Demo

from textreid.errors import ConfigError
from textreid.gallery.store import Database, Filters
from textreid.service import accounts
from textreid.service.access import LOCAL, Access
from textreid.service.limits import RateLimit

PASSWORD = "correct horse battery"  # noqa: S105


@pytest.fixture
def database(demo: Demo) -> Iterator[Database]:
    for opened in demo.opened():
        yield opened
        for one in accounts.accounts(opened):
            accounts.remove_account(opened, one.name)


@pytest.mark.slow
def test_a_password_opens_one_account(database: Database) -> None:
    assert not accounts.are_there_any(database)
    accounts.add_account(database, "ada", PASSWORD, ["search"], ["gate"])
    accounts.add_account(database, "robot", None, ["index"], None)
    assert accounts.are_there_any(database)
    assert accounts.check_password(database, "ada", PASSWORD) == Access(
        "ada", frozenset({"search"}), frozenset({"gate"})
    )
    for name, password in (("ada", PASSWORD + " "), ("ada", ""), ("eve", PASSWORD), ("robot", ""), ("ada\0", "x")):
        assert accounts.check_password(database, name, password) is None
    row = database.run(lambda c: c.execute("SELECT password FROM account WHERE name = 'ada'").fetchone())
    assert row is not None
    assert row[0].startswith("$argon2id$")


@pytest.mark.slow
def test_what_cannot_be_meant_is_refused(database: Database) -> None:
    accounts.add_account(database, "ada", PASSWORD, ["search"], None)
    refused = [
        (("ada", PASSWORD, ["search"], None), "already"),
        (("eve", "short", ["search"], None), "at least 10"),
        (("eve", PASSWORD, ["serach"], None), "did you mean search"),
        (("e\nve", PASSWORD, ["search"], None), "no name"),
        (("eve", PASSWORD, ["admin"], ["gate"]), "sees all cameras"),
    ]
    for arguments, said in refused:
        with pytest.raises(ConfigError, match=said):
            accounts.add_account(database, *arguments)
    for call, said in (
        (lambda: accounts.remove_account(database, "adda"), "did you mean ada"),
        (lambda: accounts.make_token(database, "adda", "x", ["search"], 1), "did you mean ada"),
        (lambda: accounts.make_token(database, "ada", "x", ["search"], 0), "more than 0"),
        (lambda: accounts.revoke_token(database, "ada", "x"), "no token"),
    ):
        with pytest.raises(ConfigError, match=said):
            call()
    assert len(accounts.accounts(database)) == 1


@pytest.mark.slow
def test_a_session_ends_with_its_cookie_and_its_account(database: Database) -> None:
    accounts.add_account(database, "ada", PASSWORD, ["search"], None)
    first, second = (accounts.start_session(database, "ada") for _ in range(2))
    one, two = accounts.session_of(database, first), accounts.session_of(database, second)
    assert one
    assert two
    assert one.form_key != two.form_key
    accounts.end_session(database, first)
    assert accounts.session_of(database, first) is None
    database.run(lambda c: c.execute("UPDATE session SET expires = now() - interval '1 second'"))
    assert accounts.session_of(database, second) is None
    third = accounts.start_session(database, "ada")
    accounts.remove_account(database, "ada")
    assert accounts.session_of(database, third) is None
    assert accounts.session_of(database, "nonsense \udc80") is None


@pytest.mark.slow
def test_the_command_makes_lists_and_removes(database: Database, demo: Demo) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**demo.environment, "TEXTREID_PASSWORD": PASSWORD}
        command = [*COMMAND, "account", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert run("add", "ada", "--camera", "gate", "--camera", "hall").returncode == 0
    token = run("token", "ada", "--label", "laptop", "--days", "2").stdout.strip()
    access = accounts.access_of_token(database, token)
    assert access == Access("ada", frozenset({"search"}), frozenset({"gate", "hall"}))
    assert run("list").stdout.startswith("ada\tsearch\tgate, hall\tlaptop until 20")
    assert run("remove", "ada").returncode == 0
    assert not accounts.are_there_any(database)


def test_filters_are_narrowed_and_never_widened() -> None:
    ada = Access("ada", frozenset({"search"}), frozenset({"gate", "hall"}))
    assert ada.narrow(Filters()) == Filters(cameras=("gate", "hall"))
    assert ada.narrow(Filters(cameras=("gate", "yard"))) == Filters(cameras=("gate",))
    assert ada.narrow(Filters(cameras=("yard",))) is None
    assert Access("blind", frozenset(), frozenset()).narrow(Filters()) is None
    assert LOCAL.narrow(Filters(cameras=("yard",))) == Filters(cameras=("yard",))
    assert LOCAL.may("admin")
    assert not ada.may("admin")


def test_permits_come_back_at_a_steady_rate() -> None:
    now = 100.0
    limit = RateLimit(2.0, 3.0, lambda: now)
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.take("b") == 0
    now += 0.5
    assert (limit.wait("a"), limit.take("a"), limit.wait("a")) == (0, 0, 0.5)
    now += 100
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    for number in range(20_001):
        limit.take(f"key {number}")
    assert len(limit._permits) == 10_000  # memory does not grow with the number of who asked
    assert limit.take("key 20000") == 0
