"""Who may ask the gateway what: names, origins, tokens, and a table that no route escapes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from starlette.routing import Route

from services.common.database import migrate, open_database
from services.common.settings import Settings, SettingsError, load_settings
from services.common.settings.access import AccessToken, new_token
from services.gateway.app import make_app
from services.gateway.routes import ROUTES, Action
from tests.builders.trust import credentials

STUDY = "1.2.3"
NOW = dt.datetime.now(dt.UTC)
Asking = Callable[..., TestClient]


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'axial.sqlite'}")
    migrate(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def asking(engine: Engine) -> Asking:
    """A client of a gateway with settings: ``asking(gateway={...}, access={...})``."""

    def client(base: str = "http://127.0.0.1:8042", **settings: Any) -> TestClient:
        app = make_app(Settings.model_validate(settings), engine, credentials("gateway"))
        return TestClient(app, base_url=base)

    return client


def _paths(action: Action) -> list[tuple[str, str]]:
    return [
        (method, path.replace("{study_uid}", STUDY).replace("{series_uid}", "1.2.4"))
        for (method, path), needed in ROUTES.items()
        if needed is action
    ]


def _token(*actions: str, expires: dt.datetime = NOW + dt.timedelta(days=1)) -> tuple[str, Any]:
    text, digest = new_token()
    name = "-".join(actions)
    return text, {"name": name, "sha256": digest, "actions": actions, "expires": expires}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_every_route_is_in_the_table_and_the_table_has_no_other(asking: Asking) -> None:
    app: Any = asking().app
    routes: Sequence[Any] = app.router.routes
    declared = {
        (method, route.path)
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert all(isinstance(route, Route) for route in routes)
    assert declared == set(ROUTES)


def test_what_changes_something_needs_the_right_to_act() -> None:
    for (method, path), action in ROUTES.items():
        assert (action is Action.ACT) == (method not in ("GET", "HEAD")), (method, path)
        assert (action is Action.OPEN) == (not path.startswith("/api/")), (method, path)


def test_a_route_that_nobody_entered_is_closed(asking: Asking) -> None:
    token, entry = _token("read")
    client = asking(access={"tokens": [entry]})

    def secret() -> str:
        return "secret"

    app: Any = client.app
    app.router.add_api_route("/api/v1/secret", secret)
    assert client.get("/api/v1/secret").status_code == 401
    assert client.get("/api/v1/secret", headers=_bearer(token)).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "",
        "10.0.0.7",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "[2001:db8::1]:8042",
        "evil.example",
        "evil.example:8042",
        "localhost.evil.example",
    ],
)
def test_another_name_than_ours_gets_nothing(asking: Asking, host: str) -> None:
    client = asking()
    for method, path in _paths(Action.READ) + _paths(Action.ACT) + _paths(Action.OPEN):
        answer = client.request(method, path, headers={"Host": host})
        assert answer.status_code == 421, (method, path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["127.0.0.1:8042", "localhost:8042", "LOCALHOST", "[::1]:8042"])
def test_our_own_names_are_answered(asking: Asking, host: str) -> None:
    assert asking().get("/api/v1/studies", headers={"Host": host}).status_code == 200


def test_a_configured_name_and_the_own_address_are_answered(asking: Asking) -> None:
    token, entry = _token("read")
    settings = {
        "gateway": {"host": "0.0.0.0", "hosts": ["Axial.Hospital.example"]},
        "access": {"tokens": [entry]},
    }
    client = asking("http://10.1.2.3:8042", **settings)
    for host, status in (
        ("axial.hospital.example", 200),
        ("10.1.2.3:8042", 200),
        ("other.hospital.example", 421),
    ):
        answer = client.get("/api/v1/studies", headers={"Host": host, **_bearer(token)})
        assert answer.status_code == status, host


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:8042"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8042.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(asking: Asking, headers: dict[str, str]) -> None:
    client = asking()
    for method, path in _paths(Action.ACT):
        answer = client.request(method, path, headers=headers)
        assert answer.status_code == 403, (path, answer.text)
        assert answer.json()["type"] == "origin-not-allowed"


def test_no_answer_is_readable_for_another_sites_page(asking: Asking) -> None:
    answer = asking().get("/api/v1/studies", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://127.0.0.1:8042"}, {"Origin": "https://viewer.example"}],
)
def test_our_own_page_the_command_and_named_sites_may(
    asking: Asking, headers: dict[str, str]
) -> None:
    client = asking(gateway={"origins": ["https://viewer.example"]})
    answer = client.post(f"/api/v1/studies/{STUDY}/expectation", json={}, headers=headers)
    assert answer.status_code != 403


def test_where_tokens_are_configured_every_route_but_the_open_ones_wants_one(
    asking: Asking,
) -> None:
    token, entry = _token("read")
    client = asking(access={"tokens": [entry]})
    for method, path in _paths(Action.READ) + _paths(Action.ACT):
        for headers in ({}, _bearer(token[:-1]), {"Authorization": f"Basic {token}"}):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for _, path in _paths(Action.OPEN):
        assert client.get(path).status_code == 200, path


def test_a_token_is_good_for_what_it_says_and_no_more(asking: Asking) -> None:
    reader, of_reader = _token("read")
    actor, of_actor = _token("act")
    storer, of_storer = _token("store")
    client = asking(access={"tokens": [of_reader, of_actor, of_storer]})
    for token, allowed in ((reader, Action.READ), (actor, Action.ACT), (storer, None)):
        for action in (Action.READ, Action.ACT):
            for method, path in _paths(action):
                status = client.request(method, path, headers=_bearer(token)).status_code
                assert (status == 403) == (action is not allowed), (path, status)


def test_a_token_ends_with_its_time(asking: Asking) -> None:
    gone, of_gone = _token("read", expires=NOW - dt.timedelta(seconds=1))
    client = asking(access={"tokens": [of_gone]})
    answer = client.get("/api/v1/studies", headers=_bearer(gone))
    assert answer.status_code == 401
    assert answer.json()["type"] == "token-expired"


def test_the_settings_know_a_token_by_its_hash_alone() -> None:
    token, entry = _token("read")
    assert token not in str(AccessToken.model_validate(entry))
    with pytest.raises(ValueError, match="sha256"):
        AccessToken.model_validate({**entry, "sha256": token})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "axial.hospital.example"])
def test_beyond_loopback_without_a_token_is_a_settings_error(tmp_path: Path, host: str) -> None:
    file = tmp_path / "axial.yaml"
    file.write_text(f"gateway:\n  host: '{host}'\n")
    with pytest.raises(SettingsError, match=r"gateway\.host .* is reached from other machines"):
        load_settings(file, {})
    _, of_storer = _token("store")
    with pytest.raises(ValueError, match="is reached from other machines"):
        Settings.model_validate({"gateway": {"host": host}, "access": {"tokens": [of_storer]}})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "::1"])
def test_on_loopback_no_token_is_needed(host: str) -> None:
    assert Settings.model_validate({"gateway": {"host": host}}).gateway.on_loopback
