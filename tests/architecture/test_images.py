"""The Dockerfiles: hashed, non-root, for the classic builder; secrets that come from files."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from etude_rollout.settings import RolloutSettings
from etude_sampler.settings import Settings as SamplerSettings
from etude_trainer.settings import Settings as TrainerSettings
from support.compose import TOOLS, dockerfile, rendered
from support.tree import ROOT

IMAGES = sorted((ROOT / "deploy" / "images").glob("*.Dockerfile"))
WITH_SECRETS = ROOT / "deploy" / "images" / "with-secrets"
MAKE_SECRETS = ROOT / "deploy" / "compose" / "make-secrets"
SOURCES = {
    "sampler": {"proto", "services/sampler"},
    "rollout": {"proto", "services/rollout"},
    "trainer": {"proto", "services/trainer"},
    "engine": {"proto", "services/rollout"},
}


def make_secrets(folder: Path) -> str:
    """Run the script; what it says."""
    done = subprocess.run(
        [str(MAKE_SECRETS), str(folder)], check=True, capture_output=True, text=True
    )
    return done.stdout


def test_there_is_one_image_a_service_and_one_for_the_engine() -> None:
    assert {path.stem for path in IMAGES} == set(SOURCES)


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [str(TOOLS / "hadolint"), *map(str, IMAGES)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_the_classic_builder_can_build_it(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"^#\s*syntax\s*=|<<-?[\"']?\w|--mount=|--chmod=", text, re.MULTILINE)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_bases_are_pinned_and_the_last_user_is_not_root(path: Path) -> None:
    instructions = dockerfile(path)
    stages: set[str] = set()
    for one in instructions:
        if one.word == "FROM":
            base, _, stage = one.rest.partition(" AS ")
            assert base in stages or re.search(r":v?\d+\.\d+\.\d+(-[\w-]+)?$", base), base
            stages.add(stage)
    users = [one.rest for one in instructions if one.word == "USER"]
    assert users[-1] == "10001:10001"
    labels = " ".join(one.rest for one in instructions if one.word == "LABEL")
    for name in ("title", "description", "licenses", "version"):
        assert f"org.opencontainers.image.{name}=" in labels


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_only_pinned_requirements_and_its_own_sources(path: Path) -> None:
    instructions = dockerfile(path)
    copied = [one.rest.split() for one in instructions if one.word == "COPY"]
    sources = {words[0] for words in copied if words[0].startswith(("proto", "services"))}
    assert sources == SOURCES[path.stem]
    for one in instructions:
        for call in re.findall(r"pip install [^&]*", one.rest):
            assert (
                "--require-hashes" in call or "/torch.txt" in call or "--no-build-isolation" in call
            ), call


@pytest.mark.parametrize("script", [WITH_SECRETS, MAKE_SECRETS], ids=lambda path: path.name)
def test_scripts_can_be_run(script: Path) -> None:
    assert script.stat().st_mode & stat.S_IXOTH


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key with spaces\n")
    environment = {"PATH": os.environ["PATH"], "ETUDE_REDIS_URL_FILE": str(tmp_path / "key")}
    name = "ETUDE_REDIS_URL"
    program = f"import os; print(os.environ['{name}'], '{name}_FILE' in os.environ)"
    done = subprocess.run(
        [str(WITH_SECRETS), str(TOOLS / "python"), "-c", program],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "a key with spaces False\n"


def test_a_secret_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "ETUDE_REDIS_URL_FILE": str(tmp_path / "none")}
    done = subprocess.run([str(WITH_SECRETS), "true"], env=environment, check=False)
    assert done.returncode != 0


def test_settings_that_read_files_themselves_do_not_need_the_script() -> None:
    """Nor do the commands, for `ETUDE_API_KEY_FILE`."""
    fields = {
        f"ETUDE_{name.upper()}"
        for kind in (SamplerSettings, RolloutSettings, TrainerSettings)
        for name in kind.model_fields
    }
    (names,) = re.findall(r"^for name in (.*); do$", WITH_SECRETS.read_text(), re.MULTILINE)
    for name in names.split():
        assert name in fields
        assert f"{name}_FILE" not in fields


def test_every_secret_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    wanted = {Path(spec["file"]).name for spec in rendered()["secrets"].values()}
    assert len(make_secrets(folder).splitlines()) == len(wanted)
    contents = {path.name: path.read_text() for path in folder.iterdir()}
    assert contents.keys() == wanted
    assert make_secrets(folder) == ""
    assert {path.name: path.read_text() for path in folder.iterdir()} == contents
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    password = contents["postgres_password"].strip()
    assert f"//etude:{password}@postgres:5432/etude" in contents["database_url"]
    assert contents["redis_auth"].removeprefix("requirepass ").strip() in contents["redis_url"]


def test_secrets_lie_where_git_does_not_look() -> None:
    for spec in rendered()["secrets"].values():
        ignored = subprocess.run(["git", "check-ignore", "-q", spec["file"]], cwd=ROOT, check=False)
        assert ignored.returncode == 0, spec["file"]
