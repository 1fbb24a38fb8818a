"""Prerequisite graphs of sub-tasks: validation, restriction to a run, ancestors.

Neighbours: `resolve` validates with it, `mastery` multiplies over all ancestors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Graph = Mapping[str, Sequence[str]]
"""Sub-task -> sub-tasks that should be mastered first (direct ones)."""


def find_cycle(graph: Graph) -> list[str] | None:
    """A cycle as a path that ends where it begins, or None."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        if cycle := _walk(graph, start, path=path, done=done):
            return cycle
    return None


def _walk(graph: Graph, node: str, *, path: list[str], done: set[str]) -> list[str] | None:
    if node in path:
        return [*path[path.index(node) :], node]
    if node in done:
        return None
    path.append(node)
    for before in graph.get(node, ()):
        if cycle := _walk(graph, before, path=path, done=done):
            return cycle
    path.pop()
    done.add(node)
    return None


def ancestors(graph: Graph, node: str) -> set[str]:
    """All prerequisites of `node`, direct and indirect; the graph has no cycle."""
    found: set[str] = set()
    for before in graph.get(node, ()):
        found |= {before} | ancestors(graph, before)
    return found


def restrict(graph: Graph, keep: Sequence[str]) -> dict[str, list[str]]:
    """The graph among `keep` only; a missing link is bridged by its own prerequisites."""

    def nearest(node: str) -> list[str]:
        names: list[str] = []
        for before in graph.get(node, ()):
            names += [before] if before in keep else nearest(before)
        return list(dict.fromkeys(names))

    return {name: links for name in keep if (links := nearest(name))}
