"""URLs as people and operators write them, as asyncpg wants them, and back."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from etude_sampler.database_url import async_url, libpq_url, sync_url
from etude_sampler.settings import Settings


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"]
)
def test_every_spelling_reaches_every_driver(scheme: str) -> None:
    rest = "etude:p%40ss@db.example:5433/etude"
    kept = async_url(f"{scheme}://{rest}?sslmode=verify-full")
    assert kept == f"postgresql+asyncpg://{rest}?ssl=verify-full"
    assert async_url(kept) == kept
    assert sync_url(kept) == f"postgresql+psycopg://{rest}?sslmode=verify-full"
    assert libpq_url(kept) == f"postgresql://{rest}?sslmode=verify-full"


@pytest.mark.parametrize(
    ("folder", "spelled"),
    [("/run/pg", "%2Frun%2Fpg"), ("/my data/a%2Bb", "%2Fmy%20data%2Fa%2Bb")],
)
def test_a_socket_stays_a_socket(folder: str, spelled: str) -> None:
    kept = async_url(f"postgresql://postgres@/etude?host={folder}&port=5432")
    assert kept == f"postgresql+asyncpg://postgres@/etude?host={spelled}&port=5432"
    assert libpq_url(kept) == f"postgresql://postgres@/etude?host={spelled}&port=5432"
    assert sync_url(kept) == f"postgresql+psycopg://postgres@/etude?host={spelled}&port=5432"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://etude:hunter2@db/etude", "mysql:// is not PostgreSQL"),
        ("db.example hunter2", "not a URL"),
        ("", "not a URL"),
        ("postgresql://etude:hunter2@db:port/etude", "not a URL"),
    ],
)
def test_other_databases_are_refused_without_their_password(
    given: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        async_url(given)
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("ETUDE_DATABASE_URL", given)
    with pytest.raises(ValidationError, match=said):
        Settings()
