"""Redis or Valkey: reached, let in, with the commands that the scripts use, and never evicting."""

from __future__ import annotations

import re
import time
from importlib.resources import files
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from .database import skew
from .finding import Finding, bad, ok, warn

OLDEST: Final = 7
"""Major version (Valkey counts on from 7)."""
FULL: Final = 0.9
"""Part of `maxmemory` that is worth a word (our choice)."""
OF_THE_CLIENT: Final = frozenset(
    {
        *("EVALSHA", "SCRIPT|LOAD", "INFO", "TIME", "PING", "SUBSCRIBE", "PSUBSCRIBE"),
        *("HMGET", "ZSCORE", "ZCARD", "ZRANGEBYSCORE", "XRANGE", "XTRIM", "UNLINK", "SCAN"),
    }
)
"""Commands that the sampler sends by itself."""


def commands() -> frozenset[str]:
    """Every command that the sampler needs: its own, and those of its scripts."""
    folder = files("etude_sampler.store.redis") / "lua"
    found: set[str] = set(OF_THE_CLIENT)
    for script in folder.iterdir():
        if script.name.endswith(".lua"):
            found |= set(re.findall(r"redis\.call\('([A-Z]+)'", script.read_text("utf-8")))
    return frozenset(found)


def redis(url: str, *, timeout_s: float = 5.0) -> list[Finding]:
    """All about the server at a URL."""
    client = Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    with client:
        try:
            return _looked(client)
        except AuthenticationError as error:
            return [bad("redis", f"wrong password: {error}", "correct ETUDE_REDIS_URL")]
        except NoPermissionError as error:
            mend = "let this user run INFO, CONFIG|GET, TIME and the commands of the scripts"
            return [bad("redis", f"this user may not look: {error}", mend)]
        except InvalidResponse:
            detail = "what answers there is not Redis"
            return [bad("redis", detail, "correct ETUDE_REDIS_URL")]
        except (RedisConnectionError, OSError) as error:
            return [bad("redis", f"no answer: {error}", "start it, or correct ETUDE_REDIS_URL")]
        except RedisError as error:
            return [bad("redis", str(error), "look at the server's log")]


def _looked(client: Redis) -> list[Finding]:
    info: dict[str, Any] = client.info()
    name = str(info.get("server_name", "redis")).capitalize()
    version = str(info.get("valkey_version") or info["redis_version"])
    found = [_server(info, name, version)]
    found.append(_commands(client))
    found += _settings(info)
    before = time.time()
    seconds, micros = client.time()
    found.append(skew(name, seconds + micros / 1e6, before, time.time()))
    return found


def _server(info: dict[str, Any], name: str, version: str) -> Finding:
    if int(version.split(".")[0]) < OLDEST:
        return bad("redis", f"{name} {version}", f"use {OLDEST}.0 or newer, or Valkey")
    if info.get("role") != "master":
        return bad("redis", f"{name} {version} is a replica", "use the primary's address")
    if int(info.get("loading", 0)):
        return bad("redis", f"{name} {version} is loading its file", "wait")
    return ok("redis", f"{name} {version}")


def _commands(client: Redis) -> Finding:
    """What is missing, because it was renamed or this user may not run it."""
    raw: Any = client  # `execute_command` has no types
    user = str(raw.execute_command("ACL WHOAMI"))
    lacking: list[str] = []
    for command in sorted(commands()):
        words = command.split("|")
        try:
            known = raw.execute_command("COMMAND INFO", "|".join(words).lower())
            if not known or (isinstance(known, list) and known[0] is None):
                lacking.append(command)
                continue
            said = raw.execute_command("ACL DRYRUN", user, *words, *_arguments(command))
            if str(said) != "OK":
                lacking.append(command)
        except NoPermissionError:
            raise
        except ResponseError:
            continue
    if lacking:
        names = ", ".join(lacking)
        mend = f"undo rename-command, or allow user {user!r} these commands"
        return bad("commands", f"not to be had: {names}", mend)
    return ok("commands", f"all {len(commands())} that are needed")


def _arguments(command: str) -> list[str]:
    """Enough arguments for a dry run to look at the permission and not at their number."""
    key = "etude:{run}:meta"
    given = {
        **dict.fromkeys(("TIME", "PING", "INFO"), ""),
        "EVALSHA": f"{'0' * 40} 1 {key}",
        "SCRIPT|LOAD": "return",
        "SCAN": "0",
        **dict.fromkeys(("SUBSCRIBE", "PSUBSCRIBE"), "etude:*:bell"),
        "PUBLISH": "etude:{run}:bell x",
        **dict.fromkeys(("HSET", "HINCRBY"), f"{key} a 1"),
        "ZADD": f"{key} 1 a",
        "XADD": f"{key} * a b",
        "XTRIM": f"{key} MAXLEN 1",
        **dict.fromkeys(("ZRANGE", "ZRANGEBYSCORE", "XRANGE"), f"{key} 0 1"),
        **dict.fromkeys(("DEL", "UNLINK", "HLEN", "ZCARD", "HGETALL", "ZPOPMIN"), key),
        "PEXPIRE": f"{key} 1000",
    }
    return given.get(command, f"{key} a").split()


def _settings(info: dict[str, Any]) -> list[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    found: list[Finding] = []
    if policy == "noeviction":
        found.append(ok("eviction", "noeviction"))
    else:
        mend = "set maxmemory-policy noeviction"
        found.append(bad("eviction", f"{policy}: evicting keys tears a run apart", mend))
    if int(info.get("aof_enabled", 0)):
        found.append(ok("append-only file", "on"))
    else:
        detail = "off: a restart loses trajectories, and every run is rebuilt"
        mend = "set appendonly yes, appendfsync everysec"
        found.append(warn("append-only file", detail, mend))
    for name, what in (
        ("aof_last_write_status", "append-only file"),
        ("rdb_last_bgsave_status", "snapshot"),
    ):
        if str(info.get(name, "ok")) != "ok":
            mend = "make room on its disk, and look at its log: until then it may refuse writes"
            found.append(bad("redis disk", f"the {what} could not be written", mend))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > FULL * most:
        detail = f"{used >> 20} of {most >> 20} MiB used: new leases will be refused"
        found.append(warn("memory", detail, "raise maxmemory, or lower limits.cargo_bytes of runs"))
    return found
