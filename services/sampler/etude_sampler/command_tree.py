"""Every command of `etude`: its name, its sentence, and where it is. Nothing else is imported.

`cli` builds the program from it, `lazy_commands` loads what is called. A sentence is the first of
the command's own help; tests compare them.
"""

from __future__ import annotations

from dataclasses import dataclass

SERVERS, DATA, RUNS, CARE = "Servers", "Tasks to practise", "Runs", "Care"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: `module:function` below this package."""

    target: str
    summary: str
    panel: str | None = None
    """Its heading in `etude --help`."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Commands under one word."""

    summary: str
    commands: dict[str, Entry]
    panel: str | None = None


_CHECKPOINTS = Entry("travel_cli:checkpoints", "List a run's curriculum checkpoints.", panel=RUNS)
_RESTORE = Entry(
    "travel_cli:restore",
    "Take a run back to a checkpoint; what came after it counts no more.",
    panel=RUNS,
)
_FORK = Entry(
    "travel_cli:fork",
    "Begin another run from a checkpoint; what is not given stays the same.",
    panel=RUNS,
)
_EXPORT = Entry(
    "archives.cli:export",
    "Write a run to files: tasks, ledger, statistics, versions, decisions, checkpoints.",
    panel=CARE,
)

TREE: dict[str, Entry | Branch] = {
    "serve": Entry(
        "serve_cli:serve",
        "Run the sampler; without URLs, on its own PostgreSQL and Valkey under ./.etude/.",
        panel=SERVERS,
    ),
    "migrate": Entry(
        "serve_cli:migrate",
        "Bring the database of ETUDE_DATABASE_URL to the newest schema.",
        panel=SERVERS,
    ),
    "doctor": Entry(
        "doctor.command:doctor",
        "Look at everything that Etude stands on; name what is wrong and how to mend it.",
        panel=SERVERS,
    ),
    "import": Branch(
        "Import tasks: public sets by their shape, or a file of your own.",
        {
            "jsonl": Entry(
                "datasets.cli:jsonl",
                "Import your own tasks: messages, tools and gold calls, one task a line.",
            ),
            "auto": Entry(
                "datasets.cli:auto",
                "Import rows of any known shape, or with `--columns` of any columns; the first row "
                "tells.",
            ),
            "parquet": Entry(
                "datasets.cli:parquet",
                "Import a Parquet file of any known shape, or with `--columns` of any columns.",
            ),
            "rlla": Entry(
                "datasets.cli:rlla",
                "Import ToolRL's rows (`prompt`, `reward_model.ground_truth`).",
            ),
            "xlam": Entry(
                "datasets.cli:xlam",
                "Import rows of xLAM's shape (`query`, `tools`, `answers`).",
            ),
            "hammer": Entry(
                "datasets.cli:hammer",
                "Import Hammer's rows: xLAM's shape, and rows whose tools do not fit.",
            ),
            "toolace": Entry(
                "datasets.cli:toolace",
                "Import ToolACE's rows (`system` with a list of functions, `conversations`).",
            ),
            "apibank": Entry(
                "datasets.cli:apibank",
                "Import API-Bank's rows, its own or as ToolRL processed them (an evaluation set).",
            ),
            "bfcl": Entry(
                "datasets.cli:bfcl",
                "Import BFCL's rows, from the installed bfcl-eval package (an evaluation set).",
            ),
        },
        panel=DATA,
    ),
    "datasets": Branch(
        "List, show and delete datasets.",
        {
            "list": Entry("datasets_cli:list_", "List datasets with their tasks."),
            "show": Entry("datasets_cli:show", "Show a dataset: its split and its sources."),
            "delete": Entry("datasets_cli:delete", "Delete a dataset that no run uses."),
        },
        panel=DATA,
    ),
    "runs": Branch(
        "Create, list, show, pause, compare and delete runs.",
        {
            "create": Entry("runs_cli:create", "Create a run over a dataset."),
            "list": Entry("runs_cli:list_", "List runs."),
            "show": Entry(
                "runs_cli:show", "Show a run's curriculum now: mastery, lanes, arms, counts."
            ),
            "pause": Entry("runs_cli:pause", "Stop drawing; live leases go on."),
            "resume": Entry("runs_cli:resume", "Draw again."),
            "checkpoint": Entry(
                "travel_cli:checkpoint", "Take a curriculum checkpoint of a run as it is now."
            ),
            "checkpoints": _CHECKPOINTS,
            "restore": _RESTORE,
            "fork": _FORK,
            "diff": Entry(
                "diff_cli:diff", "Say where two runs went apart: settings, draws, versions, tasks."
            ),
            "compare": Entry(
                "compare_cli:compare_runs",
                "Say whether the second run is better than the first, from as many rollouts.",
            ),
            "export": _EXPORT,
            "import": Entry(
                "archives.cli:import_",
                "Bring a run back from files: all of it, or nothing if a byte is wrong.",
            ),
            "delete": Entry(
                "retention_cli:delete",
                "Delete a paused run with all it has learned; `etude runs export` keeps it as "
                "files.",
            ),
        },
        panel=RUNS,
    ),
    "watch": Entry("watch_cli:watch", "Watch a run live, until Ctrl-C.", panel=RUNS),
    "tasks": Branch(
        "List a run's tasks, and show why one has its weight.",
        {
            "list": Entry("tasks_cli:list_", "List tasks of a run with their statistics."),
            "show": Entry(
                "tasks_cli:show", "Show one task: why it has its weight, and its groups."
            ),
        },
        panel=RUNS,
    ),
    "checkpoints": _CHECKPOINTS,
    "restore": _RESTORE,
    "fork": _FORK,
    "strategies": Entry(
        "strategies_cli:strategies",
        "List presets and the parts that a run's curriculum may name.",
        panel=RUNS,
    ),
    "simulate": Entry(
        "simulate_cli:simulate_command",
        "Compare strategies on a simulated learner, on equal rollout budgets.",
        panel=RUNS,
    ),
    "export": _EXPORT,
    "replay": Entry(
        "replay_cli:replay",
        "Draw a run's batches again, from the decision log, the ledger and the seed, and compare.",
        panel=CARE,
    ),
    "rebuild": Entry(
        "rebuild_cli:rebuild", "Load a run's hot state anew from PostgreSQL.", panel=CARE
    ),
    "gc": Entry(
        "retention_cli:gc",
        "Drop what the runs' retention no longer keeps, and the rows of deleted runs and datasets.",
        panel=CARE,
    ),
    "keys": Branch(
        "Make, list and revoke API keys.",
        {
            "create": Entry(
                "keys_cli:create", "Make a key and print it, once: only its digest is kept."
            ),
            "list": Entry(
                "keys_cli:list_", "List keys, ended ones too; the keys themselves are not kept."
            ),
            "revoke": Entry(
                "keys_cli:revoke", "End a key now; every replica refuses it within three seconds."
            ),
        },
        panel=CARE,
    ),
    "completion": Entry(
        "completion_cli:completion", "Print what makes a shell complete `etude`.", panel=CARE
    ),
}
