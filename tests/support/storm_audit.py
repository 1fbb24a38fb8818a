"""The auditor of a storm: what clients saw acknowledged against what the servers hold.

PostgreSQL and Redis are read past the sampler, statistics and mastery are computed again from the
ledger by the pure packages, and every acknowledged request is sent once more.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from etude_proto.v1 import Receipt, Run

from .sampler_app import query
from .sampler_app_redis import check_laws
from .storm_diary import Diary, Sent
from .workload_model import check_run

_LEDGER = """
SELECT l.lease_id, l.ordinal, l.number, l.fence, l.verdict, l.apply_seq, t.id
FROM ledger l JOIN runs r ON r.id = l.run_id
JOIN tasks t ON t.dataset_id = r.dataset_id AND t.ordinal = l.ordinal
WHERE l.run_id = %s ORDER BY l.apply_seq
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A group in the ledger."""

    lease_id: str
    ordinal: int
    number: int
    fence: int
    verdict: str
    apply_seq: int
    task_id: str


@dataclass(slots=True)
class Findings:
    """What the audit found: figures, and whatever is wrong by its kind."""

    figures: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def check(self, kind: str, what: Callable[[], object]) -> None:
        """Run a check of assertions."""
        try:
            what()
        except AssertionError as error:
            self.wrong[kind].append(str(error)[:2000])


def ledger_of(database_url: str, run: Run) -> list[Row]:
    """The run's ledger in apply order."""
    rows = query(database_url, _LEDGER, run.id)
    return [Row(*row) for row in rows]  # type: ignore[arg-type]


def audit(database_url: str, redis_url: str, runs: list[Run], diary: Diary) -> Findings:
    """Compare everything; blocking, for a thread."""
    found = Findings()
    for text in diary.wrong:
        found.wrong["answers that must not be"].append(text)
    for run in runs:
        _audit_run(database_url, redis_url, run, diary=diary, found=found)
    _audit_leases(diary, found)
    return found


def _audit_run(
    database_url: str, redis_url: str, run: Run, *, diary: Diary, found: Findings
) -> None:
    rows = ledger_of(database_url, run)
    applied = [row for row in rows if row.verdict == "applied"]
    found.figures["groups in the ledger, applied"] += len(applied)
    found.figures["groups in the ledger, late"] += sum(row.verdict == "late" for row in rows)
    _audit_counting(applied, found)
    _audit_replays(database_url, run, found)
    sent = [one for one in diary.sent if one.run_id == run.id]
    _audit_reports(applied, sent, found)
    boundaries = _audit_versions(database_url, run, applied=applied, sent=sent, found=found)
    found.check(
        "conservation, queue and cargo",
        lambda: check_laws(redis_url, run.id, num_tasks=run.num_tasks),
    )
    found.check(
        "statistics, mastery and weights",
        lambda: check_run(database_url, redis_url, run, boundaries=boundaries),
    )
    _audit_decisions(database_url, run, found)


def _audit_counting(applied: list[Row], found: Findings) -> None:
    """No attempt twice; along each task, fences rise with the order of application."""
    times = Counter((row.lease_id, row.ordinal, row.number) for row in applied)
    found.wrong["counted twice"] += [str(key) for key, num in times.items() if num > 1]
    last: dict[int, int] = {}
    for row in applied:
        if row.fence <= last.get(row.ordinal, -1):
            found.wrong["counted out of order"].append(str(row))
        last[row.ordinal] = row.fence


_REPLAYS = """
SELECT r.outcomes->>'replay_of', r.number, o.verdict, o.gate, o.ordinal = r.ordinal
FROM ledger r LEFT JOIN ledger o
    ON o.run_id = r.run_id AND o.apply_seq = (r.outcomes->>'replay_of')::bigint
WHERE r.run_id = %s AND r.verdict = 'replayed'
"""


def _audit_replays(database_url: str, run: Run, found: Findings) -> None:
    """A banked group is trained on again twice at most, and each time has one line."""
    rows = query(database_url, _REPLAYS, run.id)
    found.figures["groups replayed"] += len(rows)
    times = Counter((origin, number) for origin, number, *_ in rows)
    found.wrong["replayed under one number"] += [str(key) for key, num in times.items() if num > 1]
    for origin, number, *known in rows:
        if number not in (1, 2) or known != ["applied", "admitted", True]:
            found.wrong["replays of nothing"].append(f"{origin} {number} {known}")


def _audit_reports(applied: list[Row], sent: list[Sent], found: Findings) -> None:
    """Acknowledged groups are in the ledger; and every counted group was acknowledged."""
    by_seq = {row.apply_seq: row for row in applied}
    by_name = {(row.lease_id, row.task_id): row for row in applied}
    claimed: set[int] = set()
    refused: set[tuple[str, str]] = set()
    for one in sent:
        if one.kind != "report":
            continue
        found.figures["reports sent"] += 1
        lease_id = one.path.split("/")[3]
        if not one.acknowledged:
            refused |= {(lease_id, task_id) for task_id in _tasks_of(one)}
            continue
        found.figures["reports acknowledged"] += 1
        receipt = Receipt.model_validate_json(one.content)
        for group in receipt.groups:
            for attempt in group.attempts:
                if attempt.verdict != "applied":
                    continue
                found.figures["groups acknowledged"] += 1
                row = by_seq.get(attempt.apply_seq or -1)
                if row is None or (row.lease_id, row.task_id) != (lease_id, group.task_id):
                    found.wrong["lost"].append(f"{lease_id} {group.task_id}: {one.key}")
                else:
                    claimed.add(row.apply_seq)
    for row in applied:
        if row.apply_seq not in claimed:
            found.wrong["counted without an acknowledgement"].append(str(row))
    for name in refused & by_name.keys():
        if by_name[name].apply_seq not in claimed:
            found.wrong["refused but counted"].append(str(by_name[name]))


def _tasks_of(sent: Sent) -> list[str]:
    if sent.content_type != "application/json":
        size = int.from_bytes(sent.body[:8], "little")
        header = json.loads(sent.body[8 : 8 + size])["__metadata__"]
        body = next(json.loads(text) for text in header.values() if text.startswith("{"))
    else:
        body = json.loads(sent.body)
    return [group["task_id"] for group in body["groups"]]


def _audit_versions(
    database_url: str, run: Run, *, applied: list[Row], sent: list[Sent], found: Findings
) -> list[int]:
    """Versions without a hole, one acknowledgement each; the last apply number of every version."""
    rows = query(
        database_url,
        "SELECT version, (summary->>'num_groups')::int FROM policy_versions "
        "WHERE run_id = %s ORDER BY version",
        run.id,
    )
    versions = [int(str(version)) for version, _ in rows]
    if versions != list(range(1, len(versions) + 1)):
        found.wrong["versions"].append(f"{run.id}: {versions}")
    announced = [
        json.loads(one.content)["policy_version"]
        for one in sent
        if one.kind in ("ack", "announce") and one.acknowledged
    ]
    found.figures["versions"] += len(versions)
    found.figures["acks acknowledged"] += len(announced)
    if sorted(announced) != versions:
        odd = Counter(announced) - Counter(versions) + (Counter(versions) - Counter(announced))
        found.wrong["versions and acks differ"].append(f"{run.id}: {dict(odd)}")
    ends = list(accumulate(int(str(num)) for _, num in rows))
    if ends and ends[-1] > len(applied):
        found.wrong["versions"].append(f"{run.id}: folded {ends[-1]} of {len(applied)} groups")
        return []
    return [applied[end - 1].apply_seq if end else 0 for end in ends]


def _audit_decisions(database_url: str, run: Run, found: Findings) -> None:
    """Within an epoch, the log has no hole; only its end may be missing when Redis was lost."""
    rows = query(
        database_url,
        "SELECT epoch, min(number), max(number), count(*) FROM decisions "
        "WHERE run_id = %s GROUP BY epoch",
        run.id,
    )
    found.figures["epochs"] += len(rows)
    for epoch, first, last, num in rows:
        found.figures["decisions"] += int(str(num))
        if int(str(last)) - int(str(first)) + 1 != num or int(str(first)) > 1:
            text = f"{run.id} epoch {epoch}: {num} decisions from {first} to {last}"
            found.wrong["holes in the decision log"].append(text)


def _audit_leases(diary: Diary, found: Findings) -> None:
    """No fence was given to two leases; batches that were acknowledged trained no group twice."""
    fences = Counter((lease.run_id, lease.fence) for lease, _ in diary.leases.values())
    found.figures["prompt leases"] = len(diary.leases)
    found.figures["training batches"] = len(diary.taken)
    found.wrong["fences given twice"] += [str(key) for key, num in fences.items() if num > 1]
    acked = {one.path.split("/")[3] for one in diary.sent if one.kind == "ack" and one.acknowledged}
    trained = Counter(name for lease_id in acked for name in diary.taken.get(lease_id, ()))
    found.figures["groups trained on"] = len(trained)
    found.wrong["groups trained on twice"] += [name for name, num in trained.items() if num > 1]
