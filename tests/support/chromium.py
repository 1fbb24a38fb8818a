"""A real Chromium, driven over its DevTools protocol: one browser, one page, nothing in between.

Everything is synchronous: a command waits for its answer, and events that come meanwhile are kept.
Looked up in order: `ETUDE_CHROMIUM`, then the usual names.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from pydantic import JsonValue
from websockets.sync.client import ClientConnection, connect

from .children import Child
from .waiting import wait_for

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--lang=en-GB",
)
Json = dict[str, JsonValue]


def chromium() -> str | None:
    """The browser's program, or None."""
    named = os.environ.get("ETUDE_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[tuple[str, Json]] = []
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: JsonValue) -> Json:
        """One command of the protocol, and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if "method" in message:
                self.events.append((message["method"], message["params"]))
            elif message["id"] == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: Json = message["result"]
                return result

    def eval(self, script: str) -> JsonValue:
        """The value of an expression in the page; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        result = found["result"]
        assert isinstance(result, dict)
        return result.get("value")

    def goto(self, url: str) -> None:
        """Open an address."""
        self.call("Page.navigate", url=url)

    def until(self, script: str, *, what: str = "", timeout_s: float = 20.0) -> JsonValue:
        """Wait until an expression is true."""
        wait_for(
            lambda: bool(self.eval(f"Boolean({script})")), what=what or script, timeout_s=timeout_s
        )
        return self.eval(script)

    def until_shown(self) -> None:
        """Wait until the dashboard shows what it has read for its address."""
        self.until(
            "document.getElementById('main')?.dataset.at === location.hash && "
            "document.querySelector('.status.live') && !document.querySelector('.pending')",
            what="the view is live",
        )

    def key(self, name: str, *, code: int, text: str = "", shift: bool = False) -> None:
        """Press a key, as the keyboard would."""
        more: Json = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        if shift:
            more["modifiers"] = 8
        down: Json = {**more, "text": text} if text else more
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def tab(self, *, back: bool = False) -> None:
        """Go to the next control."""
        self.key("Tab", code=9, shift=back)

    def type(self, text: str) -> None:
        """Write into the focused field."""
        self.call("Input.insertText", text=text)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Size of the window, and the colours that the reader prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(str(found["data"])))

    def accessible(self) -> list[tuple[str, str]]:
        """Role and accessible name of everything that the accessibility tree shows."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        assert isinstance(nodes, list)
        found = []
        for node in nodes:
            assert isinstance(node, dict)
            if not node.get("ignored"):
                role, name = node.get("role"), node.get("name")
                found.append((_value(role), _value(name)))
        return found

    def complaints(self) -> list[str]:
        """What the console, the network and the scripts complained about so far."""
        self.eval("0")
        found = []
        for method, params in self.events:
            if method == "Runtime.exceptionThrown":
                found.append(json.dumps(params)[:500])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(json.dumps(params["args"])[:500])
            elif method == "Log.entryAdded":
                entry = params["entry"]
                assert isinstance(entry, dict)
                if entry["level"] in ("error", "warning"):
                    found.append(f"{entry.get('url')}: {entry['text']}")
        return found

    def origins(self) -> set[str]:
        """Schemes and hosts of everything that was asked for."""
        found = set()
        for method, params in self.events:
            if method == "Network.requestWillBeSent":
                request = params["request"]
                assert isinstance(request, dict)
                url = httpx.URL(str(request["url"]))
                found.add(f"{url.scheme}://{url.host}:{url.port}")
        return found


def _value(node: JsonValue) -> str:
    return str(node.get("value", "")) if isinstance(node, dict) else ""


@contextmanager
def browsing(folder: Path, program: str) -> Iterator[Page]:
    """A browser with a profile of its own in `folder`, on a blank page."""
    command = [program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    browser = Child("chromium", command, {}, folder / "chromium.log")
    browser.start()
    try:
        with _page(folder / "profile" / "DevToolsActivePort", browser) as page:
            yield page
    finally:
        _end(browser)


@contextmanager
def _page(port_file: Path, browser: Child) -> Iterator[Page]:
    def started() -> bool:
        assert browser.alive, browser.log.read_text(errors="replace")[-2000:]
        return port_file.is_file() and port_file.read_text().count("\n") >= 1

    wait_for(started, what="Chromium listens", timeout_s=60)
    port = int(port_file.read_text().split("\n")[0])
    tabs: list[Json] = []

    def opened() -> bool:
        tabs[:] = [
            one
            for one in httpx.get(f"http://127.0.0.1:{port}/json").json()
            if one["type"] == "page"
        ]
        return bool(tabs)

    wait_for(opened, what="Chromium has a tab", timeout_s=30)
    with connect(str(tabs[0]["webSocketDebuggerUrl"]), max_size=None, proxy=None) as socket:
        yield Page(socket)


def _end(browser: Child) -> None:
    """Stop the browser with all of its processes: they share its session."""
    process = browser.process
    assert process is not None
    browser.stopping = True
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
