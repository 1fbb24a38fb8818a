"""Evaluation: benchmarks answered by an engine, scored, and two models compared.

`cli.py` is `etude-rollout eval`. A benchmark (`api_bank.py`, `bfcl.py`) gives items and judges
answers; `asking.py` has them answered by an engine, `answers.py` keeps the answers as they come,
`tables.py` and `summary.py` say what came out, `gate.py` compares a quantised model with the full
one. Nothing here talks to a sampler: evaluation never moves a curriculum.
"""
