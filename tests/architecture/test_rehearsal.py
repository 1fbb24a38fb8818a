"""What `make rehearse` stands on agrees with the compose file; the rehearsal itself needs root."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal import bases, images, needs, observing, scene
from support.compose import services
from support.tree import ROOT

SERVICES = services()


def test_every_service_is_killed_but_those_that_end_by_themselves_or_are_not_started() -> None:
    apart = {"engine", "rollout-gpu", "trainer-gpu", "prometheus", "grafana"}
    assert set(scene.VICTIMS) == {s.name for s in SERVICES.values() if not s.is_job} - apart
    replicas = SERVICES["sampler"].spec["deploy"]["replicas"]
    assert scene.VICTIMS.count("sampler") == replicas == observing.WANTED["etude-sampler"]


def test_every_image_is_built_or_has_a_stand_in() -> None:
    built = {s.spec["image"] for s in SERVICES.values() if s.name in images.OURS}
    named = bases.images_of((ROOT / "docker-compose.yml").read_text("utf-8"))
    stand_ins = {named[name] for name in bases.STAND_INS}
    others = {s.spec["image"] for s in SERVICES.values()} - built - stand_ins
    assert others == {SERVICES["engine"].spec["image"], SERVICES["grafana"].spec["image"]}


def test_what_a_rehearsal_changes_is_there_to_be_changed() -> None:
    assert scene.OVERRIDE["services"].keys() <= SERVICES.keys()
    (published,) = SERVICES["proxy"].spec["ports"]
    assert scene.URL.endswith(f":{published['published']}")


def test_the_reason_to_skip_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    reason = needs.missing(tmp_path)
    assert reason is not None
    assert "root" in reason or "Linux" in reason
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    reason = needs.missing(tmp_path)
    assert reason is not None
    assert "mmdebstrap" in reason or "Linux" in reason
