"""Tool environments: what executes a policy's calls, in a state of every rollout's own.

`base.py` is the interface; `opening.py` finds a kind's opener and `session.py` puts limits around
what it opens. Built in: `sandboxed.py` (calculator and BFCL's services in child processes,
`sandbox/`), `http.py`, `mcp.py`. Used by `turns/`, which plays the episodes.
"""
