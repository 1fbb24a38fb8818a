"""The demo runner: sampler, rollout and trainer as child processes, watched in one live view.

`app.py` is the program; `options.py` what is run, `prepare.py` the way there (model, tasks, run),
`supervisor.py` the child processes, `watch.py` what is read from them, `view.py` and `lines.py`
what is shown, `summary.py` and `plot.py` what is left behind. It only uses the services' commands
and public APIs, and computes no figure that they did not give.
"""
