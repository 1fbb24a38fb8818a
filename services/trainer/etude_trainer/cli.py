"""The command `etude-trainer`: settings, configuration and options in, a running service out."""

from __future__ import annotations

import signal
import socket
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from pydantic import ValidationError

from etude_client.commands import CommandFailed, Program

from .config import TrainingConfig, load_config
from .errors import ConfigError, TrainerError
from .settings import Settings

if TYPE_CHECKING:
    from .parallel.crew import Crew

app = typer.Typer(
    name="etude-trainer",
    cls=Program,
    help="Trains the policy of a run on the batches that the sampler serves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option(help="Training configuration (TOML). [env: ETUDE_TRAINER_CONFIG]")
]
PresetOption = Annotated[
    str | None, typer.Option(help="Preset under the configuration (docs/reference/training.md).")
]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"etude-trainer {version('etude-trainer')}")
        raise typer.Exit


@app.callback()
def every_command(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say it and end."),
    ] = False,
    _as_json: Annotated[
        bool, typer.Option("--json", help="Say what went wrong as one JSON object.")
    ] = False,
) -> None:
    """Options before the command."""


def fail(error: TrainerError) -> NoReturn:
    """One line on standard error, and the error's exit code."""
    raise CommandFailed(str(error), error.exit_code) from error


def read_settings(**options: object) -> Settings:
    """The environment's settings with the options that were given.

    Raises:
        ConfigError: a setting is wrong; the message names it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        faults = [
            f"ETUDE_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ConfigError("; ".join(faults)) from error


@app.command()
def run(
    *,
    config: ConfigOption = None,
    preset: PresetOption = None,
    model: Annotated[
        Path | None, typer.Option(help="Model directory. [env: ETUDE_TRAINER_MODEL]")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Run, id or name. [env: ETUDE_RUN]")] = None,
    sampler_url: Annotated[
        str | None, typer.Option(help="Sampler. [env: ETUDE_SAMPLER_URL]")
    ] = None,
    weights_root: Annotated[
        Path | None, typer.Option(help="Folder for weights. [env: ETUDE_WEIGHTS_ROOT]")
    ] = None,
    trainer_dir: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints. [env: ETUDE_TRAINER_DIR]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the small API. [env: ETUDE_TRAINER_PORT]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, ... [env: ETUDE_TRAINER_DEVICE]")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="End after so many steps of this process.")
    ] = None,
) -> None:
    """Train until --max-steps, or until SIGINT or SIGTERM; then exit 0."""
    try:
        settings = read_settings(
            trainer_config=config,
            trainer_model=model,
            run=run,
            sampler_url=sampler_url,
            weights_root=weights_root,
            trainer_dir=trainer_dir,
            trainer_port=port,
            trainer_device=device,
        )
        training = load_config(settings.trainer_config, preset=preset)
        if settings.run is None:
            raise ConfigError("which run? give --run or ETUDE_RUN")
        if settings.trainer_model is None:
            raise ConfigError("which model? give --model or ETUDE_TRAINER_MODEL")
    except TrainerError as error:
        fail(error)
    serve(settings, training, run=settings.run, model=settings.trainer_model, max_steps=max_steps)


@app.command("config")
def show_config(*, config: ConfigOption = None, preset: PresetOption = None) -> None:
    """Check a training configuration and print it with every value filled in (JSON)."""
    try:
        training = load_config(config, preset=preset)
    except TrainerError as error:
        fail(error)
    typer.echo(training.model_dump_json(indent=2))


def serve(
    settings: Settings, training: TrainingConfig, *, run: str, model: Path, max_steps: int | None
) -> None:
    """Run service and API until one of them ends; of a crew's others, the work alone."""
    from .logs import configure
    from .parallel.crew import join_crew

    configure()
    try:
        crew = join_crew(device=settings.trainer_device)
    except TrainerError as error:
        fail(error)
    try:
        if crew.leads:
            lead(settings, training, run=run, model=model, max_steps=max_steps, crew=crew)
        else:
            be_led(settings, training, model=model, crew=crew)
    finally:
        crew.leave()


def be_led(settings: Settings, training: TrainingConfig, *, model: Path, crew: Crew) -> None:
    """A rank that follows. It hears of a stop from the leader, so that none ends in mid-step."""
    from .service import follow

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        follow(settings, training, model_dir=model, crew=crew)
    except TrainerError as error:
        fail(error)


def lead(
    settings: Settings,
    training: TrainingConfig,
    *,
    run: str,
    model: Path,
    max_steps: int | None,
    crew: Crew,
) -> None:
    """The rank with the sampler, the loop and the API."""
    import uvicorn

    from etude_client.tracing import TracingError, sending

    from .app import create_app
    from .service import Job, TrainerService

    def end_server() -> None:
        server.should_exit = True

    where = (settings.trainer_host, settings.trainer_port)
    try:
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        listener = socket.create_server(where, family=family)
    except OSError as error:
        reason = str(error.strerror).split(" (", maxsplit=1)[0]
        told = f"cannot serve on {where[0]}:{where[1]}: {reason}"
        fail(ConfigError(f"{told}; give --port or ETUDE_TRAINER_PORT another one"))
    job = Job(run=run, model_dir=model, max_steps=max_steps)
    service = TrainerService(settings, training, job=job, crew=crew, on_end=end_server)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(service),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        """Before and after uvicorn's own handlers, which raise the signal again at their end."""
        end_server()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        with sending("etude-trainer", settings.traces_url, ratio=settings.traces_ratio):
            try:
                server.run(sockets=[listener])
            finally:
                service.stop()
    except TracingError as error:
        fail(ConfigError(str(error)))
    if isinstance(service.error, TrainerError):
        fail(service.error)
    if service.error is not None:
        raise typer.Exit(1)


def main() -> None:
    """Entry point."""
    app()
