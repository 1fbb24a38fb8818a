"""The rollout service's small HTTP surface: health, metrics, status, and trying a prompt.

`models.py` are its bodies, `problems.py` its errors, `limits.py` its bounds; `health.py` and
`rollouts.py` its routes. Wired by `app.py`; everything it shows comes from `service.py`.
"""
