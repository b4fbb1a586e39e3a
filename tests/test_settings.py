"""The environment as a whole: what is missing or wrong is said in one sentence that names the variable."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from service.settings import VARIABLES, LogLevel, Settings, SettingsError, read_settings

DATABASE_URL = "postgresql://user:password@db.example:5432/holdfast"
REDIS_URL = "redis://redis.example:6379/0"
MINIMAL = {"DATABASE_URL": DATABASE_URL, "REDIS_URL": REDIS_URL}
SECRET = "s" * 32
SERVER_SECRETS = f"{bytes(range(32)).hex()},{bytes(range(40)).hex()}"


def test_two_addresses_are_enough():
    settings = read_settings(MINIMAL)

    assert settings == Settings(database_url=DATABASE_URL, redis_url=REDIS_URL)
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 8000, Path(".holdfast"))


def test_every_variable_sets_its_field():
    settings = read_settings(
        MINIMAL
        | {
            "HOST": "0.0.0.0",
            "PORT": "65535",
            "HOLDFAST_DATA_DIR": "/var/lib/holdfast",
            "HOLDFAST_SECRET": SERVER_SECRETS,
            "HOLDFAST_LOG_LEVEL": "warning",
            "HOLDFAST_DATABASE_CONNECTIONS": "500",
            "HOLDFAST_JWT_SECRET": SECRET,
            "HOLDFAST_JWT_JWKS_URL": "https://issuer.example/keys",
            "HOLDFAST_JWT_ISSUER": "https://issuer.example",
            "HOLDFAST_JWT_AUDIENCE": "holdfast",
            "HOLDFAST_STORAGE_URL": "s3://bucket/prefix",
            "HOLDFAST_TENANT_STORAGE_BYTES": "0",
            "HOLDFAST_TENANT_ROWS_BYTES": "0",
            "HOLDFAST_TENANT_CONNECTIONS": "500",
            "HOLDFAST_SEARCH_SECONDS": "0.5",
            "HOLDFAST_CLAMD": "localhost:3310",
            "HOLDFAST_DATABASE_OWNER_URL": "postgresql://owner@db.example/holdfast",
            "HOLDFAST_INSPECTION_ALLOW_WEAK": "true",
            "HOLDFAST_RATE_LIMIT": "600/minute",
            "HOLDFAST_TENANT_RATE_LIMIT": "1/day",
            "HOLDFAST_BAD_CREDENTIALS_LIMIT": "5/hour",
            "HOLDFAST_METRICS_PORT": "9100",
            "HOLDFAST_TRUSTED_PROXIES": "10.0.0.7, 192.168.0.0/24,::1",
            "HOLDFAST_ADDRESS_CONNECTIONS": "500",
            "HOLDFAST_TENANT_STREAMS": "2000",
            "HOLDFAST_TENANT_WAITS": "1",
            "HOLDFAST_INSPECTIONS": "8",
            "HOLDFAST_WEBHOOK_HOST_ATTEMPTS": "50",
            "HOLDFAST_CORS_ORIGINS": "https://app.example, http://localhost:5173,capacitor://localhost,http://[::1]:3000",
            "HOLDFAST_FAULT": "after_commit:3",
        }
    )

    assert settings == Settings(
        database_url=DATABASE_URL,
        redis_url=REDIS_URL,
        host="0.0.0.0",
        port=65_535,
        data_dir=Path("/var/lib/holdfast"),
        secret=SERVER_SECRETS,
        log_level=LogLevel.WARNING,
        database_connections=500,
        tenant_rows_bytes=0,
        tenant_connections=500,
        search_seconds=0.5,
        metrics_port=9100,
        bad_credentials_limit="5/hour",
        jwt_secret=SECRET,
        jwt_jwks_url="https://issuer.example/keys",
        jwt_issuer="https://issuer.example",
        jwt_audience="holdfast",
        storage_url="s3://bucket/prefix",
        tenant_storage_bytes=0,
        clamd="localhost:3310",
        database_owner_url="postgresql://owner@db.example/holdfast",
        inspection_allow_weak=True,
        rate_limit="600/minute",
        tenant_rate_limit="1/day",
        trusted_proxies="10.0.0.7, 192.168.0.0/24,::1",
        address_connections=500,
        tenant_streams=2000,
        tenant_waits=1,
        inspections=8,
        webhook_host_attempts=50,
        cors_origins="https://app.example, http://localhost:5173,capacitor://localhost,http://[::1]:3000",
        fault="after_commit:3",
    )
    assert settings.proxies == ["10.0.0.7", "192.168.0.0/24", "::1"]
    assert settings.origins == [
        "https://app.example",
        "http://localhost:5173",
        "capacitor://localhost",
        "http://[::1]:3000",
    ]
    assert settings.files_folder == Path("/var/lib/holdfast/files")
    assert settings.clamd_address == ("localhost", 3310)


@pytest.mark.parametrize(
    ("serving", "owner", "said"),
    [
        ("postgresql://app@db/x", "mysql://owner@db/x", "HOLDFAST_DATABASE_OWNER_URL must start with postgresql://"),
        ("postgresql://app@db/x", "postgresql://app:p@db/x", "DATABASE_URL must name another role"),
        ("postgresql://db/x", "postgresql://owner@db/x", "DATABASE_URL must name another role"),
        ("postgresql://app:p%C3%A4ss@db/x", "postgresql://owner@db/x", "must be of ASCII characters"),
    ],
)
def test_the_role_that_serves_is_another_than_the_owner(serving: str, owner: str, said: str):
    with pytest.raises(SettingsError, match=re.escape(said)):
        read_settings(MINIMAL | {"DATABASE_URL": serving, "HOLDFAST_DATABASE_OWNER_URL": owner})


def test_every_field_has_its_variable():
    assert set(VARIABLES) == {field.name for field in msgspec.structs.fields(Settings)}


def test_an_empty_variable_counts_as_unset_and_foreign_variables_do_not_matter():
    empty = dict.fromkeys(VARIABLES.values(), "")

    assert read_settings(empty | MINIMAL | {"PATH": "/bin", "holdfast_x": "1"}) == read_settings(MINIMAL)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_a_jwks_document_may_come_by_http_from_this_machine(host: str):
    url = f"http://{host}:9000/keys"

    assert read_settings(MINIMAL | {"HOLDFAST_JWT_JWKS_URL": url}).jwt_jwks_url == url


@pytest.mark.parametrize("host", ["issuer.example", "10.0.0.1", "127.0.0.1.example", "localhost.example", "[::2]"])
def test_a_jwks_document_comes_from_elsewhere_by_https_alone(host: str):
    with pytest.raises(SettingsError, match="Use https://"):
        read_settings(MINIMAL | {"HOLDFAST_JWT_JWKS_URL": f"http://{host}/keys"})


def test_the_operators_port_is_another_one():
    with pytest.raises(SettingsError, match="another port than PORT"):
        read_settings(MINIMAL | {"PORT": "9100", "HOLDFAST_METRICS_PORT": "9100"})


def test_bad_credentials_are_limited_unless_that_is_switched_off():
    assert read_settings(MINIMAL).bad_credentials == "60/minute"
    assert read_settings(MINIMAL | {"HOLDFAST_BAD_CREDENTIALS_LIMIT": "off"}).bad_credentials is None


@pytest.mark.parametrize("scheme", ["postgres://", "postgresql://", "postgresql+asyncpg://"])
def test_every_usual_scheme_of_postgresql_is_taken(scheme: str):
    url = f"{scheme}user:password@host/name?sslmode=require"

    assert read_settings(MINIMAL | {"DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://bucket/some/prefix"])
def test_a_bucket_is_named_with_or_without_a_prefix(url: str):
    assert read_settings(MINIMAL | {"HOLDFAST_STORAGE_URL": url}).storage_url == url


def test_without_a_scanner_there_is_no_address_of_one():
    assert read_settings(MINIMAL).clamd_address is None
    assert read_settings(MINIMAL | {"HOLDFAST_CLAMD": "[::1]:3310"}).clamd_address == ("::1", 3310)


@pytest.mark.parametrize("url", ["redis://host", "rediss://:password@host:6380/1", "unix:///run/redis.sock?db=0"])
def test_every_usual_scheme_of_redis_is_taken(url: str):
    assert read_settings(MINIMAL | {"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://host/name"),
        ("DATABASE_URL", "host/name"),
        ("DATABASE_URL", "://"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "host:6379"),
        ("REDIS_URL", "http://host"),
        ("HOLDFAST_JWT_JWKS_URL", "https://"),
        ("HOLDFAST_JWT_JWKS_URL", "https://[::1/keys"),
        ("HOLDFAST_BAD_CREDENTIALS_LIMIT", "none"),
        ("HOLDFAST_METRICS_PORT", "65536"),
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("PORT", "9" * 400),
        ("HOLDFAST_LOG_LEVEL", "loud"),
        ("HOLDFAST_SECRET", "guess me"),
        ("HOLDFAST_SECRET", "0" * 64),
        ("HOLDFAST_LOG_LEVEL", "INFO"),
        ("HOLDFAST_DATABASE_CONNECTIONS", "0"),
        ("HOLDFAST_DATABASE_CONNECTIONS", "501"),
        ("HOLDFAST_DATABASE_CONNECTIONS", "many"),
        ("HOLDFAST_JWT_SECRET", "s" * 31),
        ("HOLDFAST_JWT_JWKS_URL", "issuer.example/keys"),
        ("HOLDFAST_JWT_JWKS_URL", "file:///etc/passwd"),
        ("HOLDFAST_STORAGE_URL", "bucket"),
        ("HOLDFAST_STORAGE_URL", "s3://"),
        ("HOLDFAST_STORAGE_URL", "s3:///prefix"),
        ("HOLDFAST_STORAGE_URL", "file:///srv/files"),
        ("HOLDFAST_STORAGE_URL", "https://bucket.s3.amazonaws.com"),
        ("HOLDFAST_TENANT_STORAGE_BYTES", "-1"),
        ("HOLDFAST_TENANT_STORAGE_BYTES", "1 GiB"),
        ("HOLDFAST_TENANT_ROWS_BYTES", "-1"),
        ("HOLDFAST_TENANT_CONNECTIONS", "0"),
        ("HOLDFAST_SEARCH_SECONDS", "0"),
        ("HOLDFAST_SEARCH_SECONDS", "6"),
        ("HOLDFAST_CLAMD", "localhost"),
        ("HOLDFAST_CLAMD", ":3310"),
        ("HOLDFAST_CLAMD", "localhost:clamd"),
        ("HOLDFAST_CLAMD", "localhost:65536"),
        ("HOLDFAST_CLAMD", "localhost:0"),
        ("HOLDFAST_RATE_LIMIT", "600"),
        ("HOLDFAST_RATE_LIMIT", "0/minute"),
        ("HOLDFAST_RATE_LIMIT", "-1/minute"),
        ("HOLDFAST_RATE_LIMIT", "600/fortnight"),
        ("HOLDFAST_RATE_LIMIT", "600 per minute"),
        ("HOLDFAST_RATE_LIMIT", "10/second;600/minute"),
        ("HOLDFAST_RATE_LIMIT", "9999999999/minute"),
        ("HOLDFAST_TENANT_RATE_LIMIT", "off"),
        ("HOLDFAST_TRUSTED_PROXIES", "*"),
        ("HOLDFAST_TRUSTED_PROXIES", "proxy.example"),
        ("HOLDFAST_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("HOLDFAST_CORS_ORIGINS", "app.example"),
        ("HOLDFAST_CORS_ORIGINS", "https://app.example/"),
        ("HOLDFAST_CORS_ORIGINS", "https://app.example/page"),
        ("HOLDFAST_CORS_ORIGINS", "https://*.example"),
        ("HOLDFAST_CORS_ORIGINS", "https://app.example,*"),
        ("HOLDFAST_CORS_ORIGINS", "https://App.example"),
        ("HOLDFAST_CORS_ORIGINS", "https://app.example:443"),
        ("HOLDFAST_CORS_ORIGINS", "http://app.example:80"),
        ("HOLDFAST_CORS_ORIGINS", "https://app.example:0"),
        ("HOLDFAST_CORS_ORIGINS", "https://user@app.example"),
        ("HOLDFAST_CORS_ORIGINS", "https://app.example http://localhost"),
        ("HOLDFAST_CORS_ORIGINS", "https://app.example\nx"),
        ("HOLDFAST_CORS_ORIGINS", "https://bücher.example"),
        ("HOLDFAST_CORS_ORIGINS", "null"),
        ("HOLDFAST_CORS_ORIGINS", ","),
        ("HOLDFAST_FAULT", "commit"),
        ("HOLDFAST_FAULT", "after_commit:0"),
        ("HOLDFAST_FAULT", "after_commit:x"),
        ("HOLDFAST_JWT_SECRE", SECRET),
        ("HOLDFAST_", "x"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence_that_names_the_variable(variable: str, value: str):
    with pytest.raises(SettingsError) as refused:
        read_settings(MINIMAL | {variable: value})

    said = str(refused.value)
    assert variable in said
    assert re.fullmatch(r"[^\n]+[.?)\w]", said)
    assert "msgspec" not in said
    assert "$" not in said


def test_a_secret_is_not_said_back():
    for variable, value in (("HOLDFAST_JWT_SECRET", "too-short"), ("DATABASE_URL", "mysql://u:too-short@host/name")):
        with pytest.raises(SettingsError) as refused:
            read_settings(MINIMAL | {variable: value})
        assert "too-short" not in str(refused.value)


def test_a_misspelt_variable_is_answered_with_the_known_ones():
    with pytest.raises(SettingsError) as refused:
        read_settings(MINIMAL | {"HOLDFAST_LOGLEVEL": "info"})

    assert all(variable in str(refused.value) for variable in VARIABLES.values())
    assert "Did you mean `HOLDFAST_LOG_LEVEL`?" in str(refused.value)


def test_a_secret_of_32_bytes_is_long_enough_also_in_fewer_characters():
    assert read_settings(MINIMAL | {"HOLDFAST_JWT_SECRET": "é" * 16}).jwt_secret == "é" * 16
