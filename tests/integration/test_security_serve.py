"""`etude serve` as a process: it refuses the world without a key, logs no secret, and ends quietly
what its callers break off."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from etude_proto.keys import new_key
from etude_proto.v1 import KeyCreate, Problem, Scope
from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from support.sampler_app import problem
from support.sampler_app_replica import free_port
from support.waiting import wait_for

REFUSAL = "etude: set ETUDE_API_KEYS: "


def environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The environment without our variables, and these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETUDE_")}
    return {**clean, "ETUDE_DATA_DIR": str(folder / "data"), **more}


def refused(folder: Path, *arguments: str, **more: str) -> str:
    """What a sampler says that must not start: one line, exit code 2."""
    ours = dict.fromkeys(name for name in os.environ if name.startswith("ETUDE_"))
    command = ["serve", "--port", str(free_port()), *arguments]
    wanted = {**ours, "ETUDE_DATA_DIR": str(folder / "data"), **more}
    done = CliRunner().invoke(app, command, env=wanted)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    (line,) = done.stderr.splitlines()
    return line


def test_a_refusal_ends_the_process(short_folder: Path) -> None:
    command = [sys.executable, "-m", "etude_sampler", "serve", "--host", "0.0.0.0"]
    done = subprocess.run(
        command, env=environment(short_folder, {}), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(REFUSAL.encode())
    assert done.stderr.count(b"\n") == 1


@contextmanager
def serving(folder: Path, *arguments: str, **more: str) -> Iterator[tuple[str, Path]]:
    """A sampler in a process of its own: its URL when it answers, and its log."""
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", "etude_sampler", "serve", "--port", str(port), *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment(folder, more), stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/livez", timeout=2.0, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(is_up, what="the sampler answers", timeout_s=60)
        yield url, log
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def urls(database_url: str, valkey: RunningServer) -> dict[str, str]:
    """Where the servers are."""
    return {"ETUDE_DATABASE_URL": database_url, "ETUDE_REDIS_URL": valkey.url}


def test_it_does_not_listen_to_the_world_without_a_key(
    short_folder: Path, urls: dict[str, str]
) -> None:
    empty = short_folder / "keys"
    empty.write_text("\n \n")
    assert refused(short_folder, "--host", "0.0.0.0", **urls).startswith(REFUSAL)
    by_name = refused(short_folder, **urls, ETUDE_HOST="0.0.0.0", ETUDE_API_KEYS=" , ")
    assert by_name.startswith(REFUSAL)
    by_file = refused(short_folder, **urls, ETUDE_HOST="0.0.0.0", ETUDE_API_KEYS_FILE=str(empty))
    assert by_file.startswith(REFUSAL)
    assert refused(short_folder, "--host", "0.0.0.0").startswith(REFUSAL)
    assert not (short_folder / "data").exists()
    missing = refused(short_folder, **urls, ETUDE_API_KEYS_FILE=str(short_folder / "none"))
    assert missing.startswith("etude: ETUDE_API_KEYS_FILE: ")


def test_a_stored_key_is_a_key(short_folder: Path, urls: dict[str, str]) -> None:
    """Made over loopback with the command; then the same database serves the world."""
    with serving(short_folder, **urls) as (url, _):
        made = _etude("create", "--label", "ops", "--scope", "admin", url=url)
        key = made.stdout.strip()
        assert key.startswith("etk_")
        assert "not shown again" in made.stderr
    with serving(short_folder, "--host", "0.0.0.0", "--workers", "2", **urls) as (url, _):
        problem(httpx.get(f"{url}/v1/runs"), 401, "unauthorized")
        worker = _etude(
            "create", "--label", "w", "--scope", "rollout", "--run", "loop", "--expires", "30d",
            "--json", url=url, key=key,
        )  # fmt: skip
        stored = json.loads(worker.stdout)
        assert stored["scopes"] == ["rollout"]
        assert stored["runs"] == ["loop"]
        assert stored["key"].startswith(stored["prefix"])
        listed = _etude("list", "--json", url=url, key=key).stdout
        assert len(json.loads(listed)["keys"]) == 2
        assert stored["key"] not in listed
        assert "loop" in _etude("list", url=url, key=key).stdout
        assert stored["id"] in _etude("list", url=url, key=key, columns="80").stdout
        assert "ended" in _etude("revoke", stored["id"], url=url, key=key).stdout
        for words in (
            ["create", "--label", "x", "--scope", "all"],
            ["create", "--label", "x", "--scope", "read", "--expires", "soon"],
            ["create", "--label", "", "--scope", "read"],
            ["revoke", "key_none"],
        ):
            bad = _etude(*words, url=url, key=key, good=False)
            assert bad.exit_code == 2, words
            assert bad.stdout == ""
            assert "Traceback" not in bad.stderr


def _etude(
    *words: str, url: str, key: str | None = None, good: bool = True, columns: str = "200"
) -> Result:
    """`etude keys ...` in this process."""
    more = {"ETUDE_SAMPLER_URL": url, "ETUDE_API_KEY": key, "COLUMNS": columns}
    done = CliRunner().invoke(app, ["keys", *words], env=more)
    assert not good or done.exit_code == 0, done.output
    return done


def test_no_secret_is_logged_or_told(short_folder: Path, urls: dict[str, str]) -> None:
    """Every secret that a sampler gets, also with servers that are away; the log at its fullest."""
    configured, stored, wrong = "configured-key-1", new_key(), new_key().text
    secrets = (configured, stored.text[20:], wrong[20:], "hunter2", stored.digest)
    told = []
    good = {**urls, "ETUDE_API_KEYS": configured, "ETUDE_LOG_LEVEL": "debug"}
    with serving(short_folder, **good) as (url, log):
        body = KeyCreate(
            id=stored.id, digest=stored.digest, label="x", scopes=[Scope.ADMIN]
        ).model_dump(mode="json")
        headers = {"Authorization": f"Bearer {configured}", "Idempotency-Key": "one"}
        told.append(httpx.post(f"{url}/v1/keys", json=body, headers=headers))
        told.append(httpx.get(f"{url}/v1/keys", headers=headers))
        for key in (configured, stored.text, wrong):
            mine = {"Authorization": f"Bearer {key}"}
            for path in ("/v1/runs", "/v1/nothing", "/metrics", f"/v1/runs?key={key}", "/readyz"):
                told.append(httpx.get(url + path, headers=mine))
            told.append(httpx.post(f"{url}/v1/runs", headers=mine, content=b"{"))
            told.append(httpx.get(f"{url}/v1/runs", headers={"Authorization": key}))
    assert {answer.status_code for answer in told} >= {200, 201, 400, 401, 404, 422}
    away = {
        "ETUDE_DATABASE_URL": "postgresql+asyncpg://etude:hunter2@127.0.0.1:1/etude",
        "ETUDE_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
    }
    with serving(short_folder, **{**good, **away, "ETUDE_DEPENDENCY_TIMEOUT_S": "0.5"}) as (url, _):
        mine = {"Authorization": f"Bearer {configured}"}
        told.append(httpx.get(f"{url}/readyz"))
        told.append(httpx.get(f"{url}/v1/runs", headers=mine))
    written = log.read_text()
    assert "request.done" in written
    for secret in secrets:
        assert secret not in written
        assert secret not in "".join(answer.text + str(answer.headers) for answer in told)


def test_a_head_is_bounded(short_folder: Path, urls: dict[str, str]) -> None:
    """Long headers and lines are refused while they come, as problems; the others go on."""
    with serving(short_folder, **urls) as (url, _):
        place = url.removeprefix("http://").split(":")
        for line in (
            b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"a" * 8_000_000,
            b"GET /livez HTTP/1.1\r\n" + b"X-Many: a\r\n" * 200_000,
            b"GET /" + b"a" * 8_000_000,
            b"nonsense\r\n\r\n",
        ):
            with socket.create_connection((place[0], int(place[1])), timeout=20) as connection:
                try:
                    connection.sendall(line)
                    answer = connection.recv(4096)
                except ConnectionError:
                    continue  # it hung up in the middle of our sentence
            assert answer.startswith(b"HTTP/1.1 400 "), (line[:40], answer)
            body = answer.partition(b"\r\n\r\n")[2]
            assert Problem.model_validate_json(body).code == "bad_request"
        good = {"X-Long": "a" * 60_000}
        assert httpx.get(f"{url}/livez", headers=good).status_code == 200
        big = httpx.post(f"{url}/v1/datasets", content=b"x" * 300_000)  # a body is no head
        assert big.status_code == 400
        assert b"idempotency_key_missing" in big.content


def test_a_caller_that_hangs_up_is_a_line_of_the_log(
    short_folder: Path, urls: dict[str, str]
) -> None:
    """Half a body, then a closed connection: status 499, no traceback, and the sampler goes on."""
    with serving(short_folder, **urls) as (url, log):
        host, port = url.removeprefix("http://").split(":")
        for path in ("/v1/datasets", "/v1/leases/lease_x/groups"):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                    "Idempotency-Key: half\r\nContent-Length: 100\r\n\r\n{".encode()
                )
                wait_for(lambda: httpx.get(f"{url}/livez").status_code == 200, what="it answers")
        wait_for(lambda: log.read_text().count('"status": 499') == 2, what="both are logged")
        assert httpx.get(f"{url}/readyz").status_code == 200
        assert "Traceback" not in log.read_text()
        assert '"level": "error"' not in log.read_text()
