"""BFCL's own multi-turn executor and checker, in a process of its own.

The package's executor hands calls as text to `eval` and keeps its services in a module for ever;
here both end with the process, which has a bound of memory and of time for every row. One JSON line
in, one out. Started by `bfcl_turns_checker.py`, which writes the calls.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys

MAX_BYTES = 4 << 30
_CHECKER = "bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker"
_EXECUTOR = "bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils"


def main() -> None:
    """Judge rows until there are no more. A row that takes too long ends the process (SIGPROF)."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # some services print
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    checker, executor = importlib.import_module(_CHECKER), importlib.import_module(_EXECUTOR)
    seconds_a_row = int(sys.argv[1])
    for line in sys.stdin:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds_a_row)
        category = asked["row"]["id"].rsplit("_", 1)[0]
        try:
            said = checker.multi_turn_checker(
                asked["calls"], asked["gold"], asked["row"], category, "etude"
            )
            verdict = {"is_right": bool(said["valid"]), "reason": said.get("error_type", "")}
        except Exception as error:  # whatever a service or the checker raises: the row is wrong
            verdict = {"is_right": False, "reason": f"the checker fails: {type(error).__name__}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        for name in [name for name in vars(executor) if name.endswith("_instance")]:
            delattr(executor, name)
        answers.write(json.dumps(verdict) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
