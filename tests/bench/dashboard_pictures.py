"""The pictures of `docs/how-to/dashboard.md`: a run of 60 versions in a real Chromium.

The sampler, its servers and the browser are real; the outcomes are computed, by a skill that grows
from version to version (`support.dashboard_world`).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from etude_client import EtudeClient
from support.chromium import Page, browsing, chromium
from support.dashboard_world import make_world
from support.live_sampler import live_sampler
from support.servers import Servers

OUT = Path(__file__).resolve().parents[2] / "docs" / "pictures"
WIDTH, HEIGHT = 1120, 800


def take(page: Page, name: str, address: str, *, dark: bool = False, scroll: int = 0) -> None:
    """One picture of a view that shows what it read."""
    page.look(WIDTH, HEIGHT, dark=dark)
    page.goto(address)
    page.until_shown()
    page.eval(f"scrollTo(0, {scroll})")
    path = OUT / f"dashboard-{name}.png"
    page.screenshot(path)
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


def main() -> None:
    """Write the pictures."""
    program = chromium()
    if program is None:
        raise SystemExit("no Chromium here: install one, or name it in ETUDE_CHROMIUM")
    OUT.mkdir(exist_ok=True)
    servers = Servers()
    try:
        with (
            servers.database() as database_url,
            live_sampler(database_url, servers.valkey.url) as url,
            tempfile.TemporaryDirectory() as folder,
            browsing(Path(folder), program) as page,
        ):
            with EtudeClient(url) as client:
                world = make_world(client, num_tasks=300, num_versions=60)
                task = client.list_tasks(world.compared.id, order="stalest", only="seen").items[-1]
            run, other = f"{url}/#/runs/{world.compared.id}", f"{url}/#/runs/{world.trained.id}"
            take(page, "overview", run)
            take(page, "distributions", f"{run}/spread", dark=True)
            take(page, "queue", f"{other}/flow")
            take(page, "tasks", f"{run}/tasks?order=improved")
            take(page, "task", f"{run}/tasks/{task.id}", dark=True)
            pair = f"{url}/#/compare/{world.trained.id}/{world.compared.id}"
            take(page, "compare", pair, scroll=400)
    finally:
        servers.close()


if __name__ == "__main__":
    main()
