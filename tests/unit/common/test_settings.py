"""Settings: where they come from, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Discriminator, Tag, TypeAdapter

from services.common.settings import (
    AnyDestination,
    CStoreDestination,
    SettingsError,
    load_settings,
    transport_of,
)


def _file(folder: Path, text: str) -> Path:
    file = folder / "axial.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_hold_without_a_file() -> None:
    loaded = load_settings(None, {})
    assert loaded.settings.listener.ae_title == "AXIAL"
    assert loaded.origin("listener.ae_title") == "default"


def test_unknown_key_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    file = _file(tmp_path, "listener:\n  port: 104\n  quiet_period: 3\n")
    with pytest.raises(SettingsError, match=r"axial\.yaml:3: 'listener\.quiet_period'") as error:
        load_settings(file, {})
    assert "Did you mean 'quiet_period_s'?" in str(error.value)


def test_unknown_key_in_a_list_names_its_line(tmp_path: Path) -> None:
    file = _file(tmp_path, "listener:\n  peers:\n    - name: a\n      ae_title: A\n      hst: b\n")
    with pytest.raises(SettingsError, match=r"axial\.yaml:5: 'listener\.peers\.0\.hst'"):
        load_settings(file, {})


def test_wrong_value_names_line_and_value(tmp_path: Path) -> None:
    file = _file(tmp_path, "listener:\n  port: many\n")
    with pytest.raises(SettingsError, match=r"axial\.yaml:2: listener\.port: .*'many'"):
        load_settings(file, {})


def test_environment_wins_and_is_named_as_origin(tmp_path: Path) -> None:
    file = _file(tmp_path, "listener:\n  port: 104\n  ae_title: HOUSE\n")
    loaded = load_settings(file, {"AXIAL_LISTENER__PORT": "11113"})
    assert loaded.settings.listener.port == 11113
    assert loaded.origin("listener.port") == "$AXIAL_LISTENER__PORT"
    assert loaded.origin("listener.ae_title") == f"{file}:3"


@pytest.mark.parametrize("name", ["AXIAL_LISTNER__PORT", "AXIAL_LISTENER__PRT"])
def test_unknown_variable_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(SettingsError, match=name.replace("$", "")):
        load_settings(None, {name: "1"})


def test_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml does not exist"):
        load_settings(tmp_path / "nowhere.yaml", {})


def test_broken_yaml_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"axial\.yaml is not valid YAML"):
        load_settings(_file(tmp_path, "listener: [\n"), {})


def test_postgres_url_serves_both_databases() -> None:
    url = "postgresql+psycopg://axial@db/axial"
    settings = load_settings(None, {"AXIAL_DATABASE_URL": url}).settings
    assert settings.resolved_database_url == url
    assert settings.resolved_workflow_database_url == "postgresql://axial@db/axial"


def test_every_setting_is_documented_in_place() -> None:
    from pydantic import BaseModel

    from services.common.settings import Settings

    def undocumented(model: type[BaseModel], at: str) -> list[str]:
        found: list[str] = []
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += undocumented(inner, f"{at}{name}.")
            elif not field.description:
                found.append(at + name)
        return found

    assert undocumented(Settings, "") == []


SECRET = "Geheim/mit@Zeichen"


def _shown(*arguments: str) -> str:
    from typer.testing import CliRunner

    from services.cli.tree import app

    result = CliRunner().invoke(app, ["config", "show", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("arguments", [(), ("--json",), ("database_url",), ("access",)])
def test_no_secret_is_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    """Every secret by its type, and a password in whatever URL it stands."""
    file = _file(
        tmp_path,
        f"""
database_url: postgresql+psycopg://axial:{SECRET}@db/axial
orchestrator: {{workflow_database_url: "postgresql://axial:{SECRET}@db/flows?sslpassword={SECRET}"}}
gateway: {{client_token: "{SECRET}"}}
triton: {{control_key: "{SECRET}"}}
listener: {{stow: {{tokens: ["{SECRET}"]}}}}
store: {{endpoint: "https://key:{SECRET}@s3.example"}}
telemetry: {{otlp_endpoint: "http://user:{SECRET}@collector:4317"}}
""",
    )
    monkeypatch.setenv("AXIAL_CONFIG", str(file))
    shown = _shown(*arguments)
    assert "Geheim" not in shown
    assert "Zeichen" not in shown
    if arguments == ("--json",):
        assert "postgresql+psycopg://axial:********@db/axial" in shown


def test_the_services_still_get_the_password() -> None:
    url = f"postgresql+psycopg://axial:{SECRET}@db/axial"
    settings = load_settings(None, {"AXIAL_DATABASE_URL": url}).settings
    assert settings.resolved_database_url == url
    assert settings.resolved_workflow_database_url == f"postgresql://axial:{SECRET}@db/axial"
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    "variables",
    [
        {"AXIAL_ACCESS__TOKENS": f'[{{"name": "a", "sha256": "{SECRET}"}}]'},
        {"AXIAL_GATEWAY__CLIENT_TOKEN": SECRET, "AXIAL_GATEWAY__PORT": "none"},
        {"AXIAL_DATABASE_URL": f"x://u:{SECRET}@h", "AXIAL_GATEWAY__HOST": "0.0.0.0"},
        {
            "AXIAL_LISTENER__STOW__TOKENS": f'["{SECRET}"]',
            "AXIAL_RETENTION__MIN_FREE_BYTES": "1",
        },
    ],
    ids=["hash", "token", "whole tree", "tokens in the tree"],
)
def test_an_error_names_the_place_and_no_secret(variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(None, variables)
    assert "Geheim" not in str(error.value)


def test_what_was_a_variable_of_its_own_is_a_setting() -> None:
    given = {"AXIAL_TRITON__THREADS": "3", "AXIAL_TRITON__IDLE_RELEASE_S": "7"}
    triton = load_settings(None, given).settings.triton
    assert (triton.threads, triton.idle_release_s) == (3, 7.0)
    with pytest.raises(SettingsError, match="AXIAL_INFERENCE_THREADS is not a setting"):
        load_settings(None, {"AXIAL_INFERENCE_THREADS": "3"})


def test_a_destination_without_a_transport_is_one_by_c_store(tmp_path: Path) -> None:
    """Settings of the time when there was one transport keep their meaning."""
    line = "{name: pacs, ae_title: PACS, host: pacs, port: 104}"
    file = _file(tmp_path, f"reporting:\n  destinations:\n    - {line}\n")
    (destination,) = load_settings(file, {}).settings.reporting.destinations
    assert isinstance(destination, CStoreDestination)
    assert destination.transport == "cstore"


def test_an_unknown_transport_is_an_error_that_names_its_line(tmp_path: Path) -> None:
    line = "{name: pacs, transport: pigeon, ae_title: PACS, host: pacs, port: 104}"
    file = _file(tmp_path, f"reporting:\n  destinations:\n    - {line}\n")
    with pytest.raises(SettingsError, match=r"axial\.yaml:3: .*transport.*'pigeon'"):
        load_settings(file, {})


def test_a_second_transport_makes_destinations_a_union_by_their_tag() -> None:
    class Folder(AnyDestination):
        """A destination of the future."""

        transport: Literal["folder"] = "folder"
        path: str

    union = TypeAdapter[CStoreDestination | Folder](
        Annotated[
            Annotated[CStoreDestination, Tag("cstore")] | Annotated[Folder, Tag("folder")],
            Discriminator(transport_of),
        ]
    )
    old = {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}
    assert isinstance(union.validate_python(old), CStoreDestination)
    new = {"name": "share", "transport": "folder", "path": "/results"}
    assert isinstance(union.validate_python(new), Folder)
    assert union.validate_python(Folder(name="share", path="/results")).name == "share"
