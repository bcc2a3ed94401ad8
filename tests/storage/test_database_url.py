from __future__ import annotations

import pytest

from rfsearch.storage.database_url import parse_url, shown, without_password


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("postgresql://me@db/x", "postgresql+psycopg"),
        ("postgres://me@db/x", "postgresql+psycopg"),
        ("postgresql+psycopg2://me@db/x", "postgresql+psycopg2"),
        ("mysql://me@db/x", "mysql+pymysql"),
        ("sqlite:///study.db", "sqlite"),
        ("grpc://db:13000", "grpc"),
    ],
)
def test_drivers_are_those_of_the_extras(text: str, driver: str) -> None:
    assert parse_url(text).drivername == driver


@pytest.mark.parametrize("text", ["", "hunter2", "postgresql://me:hunter2@db:port/x"])
def test_what_is_no_address_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="--storage must be an address such as") as error:
        parse_url(text)
    assert "hunter2" not in str(error.value)


def test_an_address_is_shown_without_what_may_hold_a_password() -> None:
    url = parse_url("postgresql://me:hunter2@db:5432/x?password=hunter3&sslpassword=hunter4")
    assert shown(url) == "postgresql://me:***@db:5432/x"
    assert "hunter" not in repr(url).replace("hunter3", "").replace("hunter4", "")


def test_passwords_are_taken_out_of_messages() -> None:
    url = parse_url("mysql://me:hun%2Fter2@db/x?ssl_key_password=hunter3")
    message = "cannot log in\nas me with 'hun/ter2' (hun%2Fter2), hunter3"
    assert without_password(message, url) == "cannot log in as me with '***' (***), ***"
