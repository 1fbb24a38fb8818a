"""Episodes of several turns: the policy calls tools, the environment answers, until it is done.

`calls.py` reads a turn, `continuing.py` writes the tokens that follow it, `chains.py` is one
rollout while it grows, `playing.py` moves it by a turn, `branching.py` when it is cloned (ARPO),
`groups.py` the group of a task, `tabling.py` the way from item to report, `options.py` has the
limits. Called by `episode.py` for tasks with an environment; environments are `tools/`, scores
`rewards/episodes.py`.
"""
