"""The `etude-rollout` command: worker, rewards, evaluation, models, a vLLM server.

Only reads arguments and settings and calls the modules that do the work.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from etude_client.commands import CommandFailed, Program
from etude_client.tracing import TracingError, sending

from . import logs
from .engines.base import EngineError
from .evaluation.cli import evaluation
from .models.cli import models
from .score import score
from .settings import RolloutSettings

main = typer.Typer(
    name="etude-rollout",
    cls=Program,
    help="Rollout service of Etude: takes prompt batches from the sampler, generates completions, "
    "scores them and reports.\n\nSettings come from environment variables that begin with ETUDE_ "
    "(ETUDE_SAMPLER_URL, ETUDE_RUN, ETUDE_MODEL_PATH, ETUDE_ENGINE, ...).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
main.command()(score)
main.add_typer(models, name="models")
main.add_typer(evaluation, name="eval")

EXIT_CONFIG = 2


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"etude-rollout {version('etude-rollout')}")
        raise typer.Exit


@main.callback()
def _every_command(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say it and end."),
    ] = False,
    _as_json: Annotated[
        bool, typer.Option("--json", help="Say what went wrong as one JSON object.")
    ] = False,
) -> None:
    # Threads of torch's kernels that spin while they wait make two services on a small machine
    # ten times slower. Read when torch is loaded, hence before it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def read_settings(**overrides: object) -> RolloutSettings:
    """Settings from the environment, with arguments on top; exits with one line when wrong."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return RolloutSettings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        fault = error.errors()[0]
        name = "_".join(map(str, fault["loc"])).upper()
        _refuse(f"ETUDE_{name}: {fault['msg']}")


def _refuse(message: str) -> NoReturn:
    raise CommandFailed(message, EXIT_CONFIG)


@main.command()
def worker(
    run: Annotated[str | None, typer.Option(help="Id or name of the run (ETUDE_RUN).")] = None,
    model: Annotated[Path | None, typer.Option(help="Model directory (ETUDE_MODEL_PATH).")] = None,
    engine: Annotated[str | None, typer.Option(help="transformers or vllm (ETUDE_ENGINE).")] = None,
    sampler_url: Annotated[
        str | None, typer.Option(help="Base URL of the sampler (ETUDE_SAMPLER_URL).")
    ] = None,
) -> None:
    """Work for a run: lease tasks, generate, score, report, load new weights; until SIGTERM.

    On SIGTERM or Ctrl-C the worker takes no more tasks, finishes what it can within
    ETUDE_SHUTDOWN_GRACE_S seconds, gives the rest back and exits with 0; a second signal gives
    back at once. It exits with 3 when it must not go on, for example when the engine's
    log-probabilities differ from the trainer's after new weights were loaded.
    """
    settings = read_settings(run=run, model_path=model, engine=engine, sampler_url=sampler_url)
    if not settings.run:
        _refuse("no run: give --run or set ETUDE_RUN to the id or name of a run")
    if not (settings.model_path / "config.json").is_file():
        _refuse(
            f"no model in {settings.model_path}: give --model or set ETUDE_MODEL_PATH "
            "(etude-rollout models fetch-smollm2 --out DIR makes one)"
        )
    logs.configure(settings.log_level)
    from .serving import serve

    try:
        with sending("etude-rollout", settings.traces_url, ratio=settings.traces_ratio):
            code = asyncio.run(serve(settings))
    except TracingError as error:
        _refuse(str(error))
    except OSError as error:
        where = f"{settings.rollout_host}:{settings.rollout_port}"
        reason = str(error.strerror).split(" (", maxsplit=1)[0]
        _refuse(f"cannot serve on {where}: {reason}; set ETUDE_ROLLOUT_PORT to another port")
    # Threads of native libraries may not stop the exit of a worker that is done.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


@main.command("serve-vllm")
def serve_vllm(
    model: Annotated[Path | None, typer.Option(help="Model directory (ETUDE_MODEL_PATH).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (ETUDE_VLLM_PORT).")] = None,
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter of vLLM's environment (ETUDE_VLLM_PYTHON)."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address; keep it private, control routes have no password.")
    ] = "127.0.0.1",
    extra: Annotated[
        list[str] | None, typer.Argument(help="More arguments for vLLM, after --.")
    ] = None,
) -> None:
    """Run a vLLM server with the flags that rollouts need, until SIGTERM or Ctrl-C.

    Workers reach it with ETUDE_ENGINE=vllm and ETUDE_VLLM_URL. It must run in an environment that
    has vLLM and etude-rollout installed (make setup-vllm builds one for CPUs), and it must see the
    same ETUDE_WEIGHTS_ROOT as the trainer. A worker without ETUDE_VLLM_URL starts its own.
    """
    settings = read_settings(model_path=model, vllm_port=port, vllm_python=python)
    options = replace(settings.vllm_options(), host=host, extra=tuple(extra or ()))
    logs.configure(settings.log_level)
    from .serving import serve_child

    try:
        raise typer.Exit(asyncio.run(serve_child(options)))
    except EngineError as error:
        _refuse(str(error))
