"""The dashboard in a real Chromium: what people see, hear and press; one browser for all of it.

Without a Chromium these tests are skipped, and say so. `ETUDE_DASHBOARD_PICTURES` names a folder
for a screenshot of every view in light, dark and narrow.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import SecretStr

from etude_client import EtudeClient
from etude_sampler.app import create_app
from etude_sampler.embedded import RunningServer
from etude_sampler.settings import Settings
from support.chromium import Page, browsing, chromium
from support.contrast import CONTRAST
from support.dashboard_world import HOSTILE, World, make_world
from support.live_sampler import serving
from support.servers import Servers

KEY = "a-key-of-this-test"
PICTURES = os.environ.get("ETUDE_DASHBOARD_PICTURES")
NAMED = {
    *("button", "link", "combobox", "textbox", "searchbox", "slider", "table", "navigation"),
    *("region", "dialog", "form", "search", "figure", "heading", "columnheader", "alert"),
}
"""Roles that must have a name, where they occur."""
UNNAMED = {"alert", "form", "figure", "columnheader"}
"""Of these, those that may have none: a table's corner, a figure named by its caption's text."""


@dataclass(slots=True)
class Scene:
    """A sampler that can be stopped and started again, two runs, and a browser."""

    settings: Settings
    port: int
    page: Page
    running: ExitStack
    world: World | None = None

    @property
    def url(self) -> str:
        """Where the sampler answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def made(self) -> World:
        """Both runs."""
        assert self.world is not None
        return self.world

    def start(self) -> None:
        """Start the sampler."""
        self.running.enter_context(serving(create_app(self.settings), port=self.port))

    def open(self, hash_: str) -> None:
        """Go to a view and wait until it shows what it read."""
        self.page.eval(f"location.hash = {hash_!r}")
        self.page.until_shown()

    def views(self) -> dict[str, str]:
        """Name and address of every view."""
        run = f"#/runs/{self.made.trained.id}"
        return {
            "runs": "#/",
            "overview": run,
            "distributions": f"{run}/spread",
            "queue": f"{run}/flow",
            "tasks": f"{run}/tasks?order=hardest",
            "compare": f"#/compare/{self.made.trained.id}/{self.made.compared.id}",
        }


@pytest.fixture(scope="module")
def scene(
    servers: Servers, valkey: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """One sampler that asks for a key, one browser that has given it."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium here: install one, or name it in ETUDE_CHROMIUM")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("browser")
    with (
        servers.database() as database_url,
        ExitStack() as running,
        browsing(folder, program) as page,
    ):
        settings = Settings(
            database_url=database_url, redis_url=valkey.url, api_keys=SecretStr(KEY)
        )
        scene = Scene(settings, port, page, running)
        scene.start()
        with EtudeClient(scene.url, api_key=KEY) as client:
            scene.world = make_world(client)
        page.look(1280, 900)
        yield scene


def test_a_key_is_asked_for_and_a_wrong_one_refused(scene: Scene) -> None:
    page = scene.page
    page.goto(f"{scene.url}/")
    page.until("document.querySelector('dialog[open]')", what="the page asks for a key")
    assert page.eval("document.activeElement.id") == "ask-key", "the field has the focus"
    page.type("wrong")
    page.key("Enter", code=13, text="\r")
    page.until("document.getElementById('ask-fault').textContent", what="it is refused")
    page.eval("document.getElementById('ask-key').focus()")
    page.type(KEY)
    page.key("Enter", code=13, text="\r")
    page.until("document.querySelector('.status.live')", what="the runs are shown")
    assert page.eval("sessionStorage.getItem('etude.key')") == KEY
    assert page.eval("localStorage.length") == 0
    assert page.eval("[...document.querySelectorAll('tbody th')].map((n) => n.textContent)") == [
        one.name for one in sorted((scene.made.trained, scene.made.compared), key=lambda r: r.id)
    ]
    refusals = [one for one in page.complaints() if "401" not in one]
    assert refusals == []
    page.events.clear()


def test_every_view_is_named_readable_and_fits(scene: Scene) -> None:
    page, seen = scene.page, {}
    for name, hash_ in scene.views().items():
        scene.open(hash_)
        text = str(page.eval("document.body.innerText"))
        for word in ("undefined", "NaN", "[object", "null"):
            assert word not in text, (name, word)
        nodes = page.accessible()
        nameless = [role for role, label in nodes if role in NAMED - UNNAMED and not label.strip()]
        assert nameless == [], name
        roles = [role for role, _ in nodes]
        assert (roles.count("main"), roles.count("banner")) == (1, 1), name
        assert page.eval("document.querySelectorAll('h1').length") == 1
        levels = page.eval(
            "[...document.querySelectorAll('h1,h2,h3,h4')].map((n) => +n.tagName[1])"
        )
        assert isinstance(levels, list)
        steps = [int(str(b)) - int(str(a)) for a, b in pairwise(levels)]
        assert all(step <= 1 for step in steps), (name, levels)
        seen[name] = (text, nodes)
        for dark in (False, True):
            page.look(1280, 900, dark=dark)
            assert page.eval(CONTRAST) == [], (name, dark)
            picture(page, f"{name}-{'dark' if dark else 'light'}")
        page.look(390, 800)
        page.until("document.body.clientWidth <= 390")
        overflow = page.eval("document.scrollingElement.scrollWidth")
        assert overflow == 390, f"{name} is wider than a telephone: {overflow}"
        picture(page, f"{name}-narrow")
        page.look(1280, 900)
    names = {name: {label for _, label in nodes} for name, (_, nodes) in seen.items()}
    assert "Mastery per sub-task: version" in names["overview"]
    assert "Success and signal as a table" in seen["overview"][0]
    assert "Workers with leases" in names["queue"]
    assert {"anna", "bert"} <= set(seen["queue"][0].split())
    assert "All 60 tasks" in seen["distributions"][0]
    assert "compared" in seen["compare"][0]
    assert page.complaints() == []
    assert page.origins() == {f"http://127.0.0.1:{scene.port}"}, "nothing comes from elsewhere"


def picture(page: Page, name: str) -> None:
    """Keep a screenshot, if somebody wants to look."""
    if PICTURES:
        folder = Path(PICTURES)
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(folder / f"{name}.png", whole=True)


def test_charts_show_bands_and_are_walked_by_keyboard(scene: Scene) -> None:
    page = scene.page
    scene.open(scene.views()["overview"])
    bands = page.eval("document.querySelectorAll('.band').length")
    assert isinstance(bands, int)
    assert bands >= 5, "mastery, arms and signal have bands"
    assert page.eval(
        "[...document.querySelectorAll('path')].every((n) => !/NaN/.test(n.outerHTML))"
    )
    page.eval("document.activeElement.blur(); scrollTo(0, 0)")
    page.eval("document.getElementById('skip').focus()")
    page.key("Enter", code=13, text="\r")
    assert page.eval("document.activeElement.id") == "main", "the skip link leads to the content"
    order = []
    for _ in range(14):
        page.tab()
        order.append(
            page.eval(
                "document.activeElement.getAttribute('aria-label') ?? "
                "document.activeElement.textContent.trim()"
            )
        )
        if "Mastery per sub-task: version" in str(order[-1]):
            break
    assert order[:5] == ["All runs", "Overview", "Distributions", "Queue and workers", "Tasks"]
    assert order[-1] == "Mastery per sub-task: version"
    before = page.eval("document.activeElement.getAttribute('aria-valuetext')")
    page.key("Home", code=36)
    after = str(page.eval("document.activeElement.getAttribute('aria-valuetext')"))
    assert after.startswith("version 1:")
    assert after != before
    assert page.eval(
        "[...document.querySelectorAll('.where')].every((n) => /cursor/.test(n.textContent))"
    )
    shadow = page.eval("getComputedStyle(document.activeElement).outlineStyle")
    assert shadow == "solid", "the focus is seen"


def test_the_explorer_searches_turns_and_leads_to_a_task(scene: Scene) -> None:
    page = scene.page
    scene.open(scene.views()["tasks"])
    rows = "[...document.querySelectorAll('tbody tr')].map((n) => n.innerText.split('\\t')[0])"
    first = page.eval(rows)
    assert isinstance(first, list)
    assert len(first) == 25
    page.eval("[...document.querySelectorAll('.pager button')].at(-1).click()")
    page.until("/Tasks 26 to 50/.test(document.body.innerText)", what="the second page")
    assert not set(map(str, first)) & set(map(str, page.eval(rows) or []))  # type: ignore[arg-type]
    page.eval("document.querySelector('input[name=q]').focus()")
    page.type("onerror")
    page.key("Enter", code=13, text="\r")
    page.until("/Tasks 1 to 1\\b/.test(document.body.innerText)", what="one task is found")
    assert "q=onerror" in str(page.eval("location.hash"))
    page.eval("document.querySelector('tbody a').click()")
    page.until("/Why it has its weight/.test(document.body.innerText)", what="the task is shown")
    assert HOSTILE in str(page.eval("document.querySelector('.message pre').textContent"))
    assert page.eval("window.hacked ?? null") is None, "a prompt is text, never markup"
    assert page.eval("document.querySelectorAll('main img').length") == 0
    picture(page, "task-light")


def test_a_group_shows_its_rollouts_and_trajectories(scene: Scene) -> None:
    page = scene.page
    scene.open(f"#/runs/{scene.made.trained.id}/tasks?order=stalest&only=seen")
    scene_tasks = "[...document.querySelectorAll('tbody a')].map((n) => n.getAttribute('href'))"
    with EtudeClient(scene.url, api_key=KEY) as client:
        newest = max(
            client.list_tasks(scene.made.trained.id, only="seen").items,
            key=lambda one: one.statistics.last_policy_version if one.statistics else -1,
        )
    assert page.eval(scene_tasks)
    scene.open(f"#/runs/{scene.made.trained.id}/tasks/{newest.id}")
    page.eval("document.querySelector('details summary').click()")
    page.eval("document.querySelector('details button').click()")
    page.until("/Mean log-probability/.test(document.body.innerText)", what="trajectories are read")
    table = "[...document.querySelectorAll('details[open] tbody tr')].map((n) => n.innerText)"
    found = page.eval(table)
    assert isinstance(found, list)
    assert str(found[-1]).split("\t")[:4] == ["4", "8", "4", "-0.500"]
    said = page.eval(
        "[...document.querySelectorAll('details[open] pre')].map((n) => n.textContent)"
    )
    assert said == [HOSTILE] * 4
    assert page.eval("window.hacked ?? null") is None
    picture(page, "group-light")


def test_the_page_lives_through_a_restart_and_says_so(scene: Scene) -> None:
    page = scene.page
    scene.open(scene.views()["overview"])
    assert page.complaints() == []
    shown = "document.querySelector('.tile dd').textContent"
    before = page.eval(shown)
    scene.running.close()
    page.until("document.querySelector('.status.failing')", what="it says that it is not live")
    told = str(page.eval("document.querySelector('.notice').textContent"))
    assert "does not answer" in told
    assert "What is shown is of" in told
    assert page.eval(shown) == before, "what was read stays"
    scene.start()
    with EtudeClient(scene.url, api_key=KEY) as client:
        version = client.get_run(scene.made.trained.id).policy_version
    page.until("document.querySelector('.status.live')", what="it is live again", timeout_s=40)
    assert page.eval(shown) == str(version)
    assert page.eval("document.querySelector('.notice').hidden")
