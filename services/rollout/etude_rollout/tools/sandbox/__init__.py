"""The inside of the sandbox: runs in child processes, imports neither torch nor asyncio.

`nursery.py` is the process that sessions are forked from, `confine.py` what it gives up first,
`serving.py` the protocol of a session, `calculator.py` and `bfcl.py` the two environments. The
outside is `tools/sandboxed.py`.
"""
