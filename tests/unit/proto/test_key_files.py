"""Keys: their form, their digest, the file that holds one, and the settings that read it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from etude_proto.keys import digest_of, id_of, key_in, new_key
from etude_rollout.settings import RolloutSettings
from etude_trainer.settings import Settings as TrainerSettings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's environment."""
    for name in [name for name in os.environ if name.startswith("ETUDE_")]:
        monkeypatch.delenv(name)


def test_keys_are_long_random_and_name_themselves() -> None:
    made = [new_key() for _ in range(100)]
    assert len({key.text for key in made}) == len({key.id for key in made}) == 100
    for key in made:
        assert id_of(key.text) == key.id
        assert len(key.text) == len("etk_0123456789ab_") + 43  # 256 bits in base64
        assert key.digest == hashlib.sha256(key.text.encode()).hexdigest()
        assert digest_of(key.text).hex() == key.digest
        assert key.text not in repr(key)
    for text in ("", "etk_", made[0].text + "x", made[0].text.upper(), " " + made[0].text):
        assert id_of(text) is None


@pytest.mark.parametrize("kind", [RolloutSettings, TrainerSettings])
def test_a_service_takes_its_key_from_a_file(
    kind: type[BaseSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "api_key"
    file.write_text("secret-key\n")
    monkeypatch.setenv("ETUDE_API_KEY_FILE", str(file))
    settings = kind()
    assert isinstance(settings, (RolloutSettings, TrainerSettings))
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "secret-key"
    assert "secret-key" not in repr(settings)
    monkeypatch.setenv("ETUDE_API_KEY", "another")
    with pytest.raises(ValidationError, match="not both"):
        kind()
    monkeypatch.delenv("ETUDE_API_KEY")
    for content in ("", "two keys", "a\nb"):
        file.write_text(content)
        with pytest.raises(ValidationError, match="instead of one"):
            kind()
    monkeypatch.setenv("ETUDE_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ValidationError, match="cannot be read"):
        kind()


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "api_key"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read"):
        key_in(file)


def test_rollout_s_api_is_closed_to_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="set ETUDE_API_KEY"):
        RolloutSettings(rollout_host="0.0.0.0")
    monkeypatch.setenv("ETUDE_API_KEY", "secret")
    assert RolloutSettings(rollout_host="0.0.0.0").rollout_host == "0.0.0.0"
