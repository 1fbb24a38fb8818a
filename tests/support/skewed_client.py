"""A rollout worker with a wrong wall clock: `python -m support.skewed_client URL RUN`, once.

Leases, beats, reports, and prints its clock and what was applied as one JSON line.
"""

from __future__ import annotations

import json
import sys
import time

from etude_client import EtudeClient
from etude_proto.v1 import ExtendRequest, PromptBatchRequest

from .workload import report_of

if __name__ == "__main__":
    with EtudeClient(sys.argv[1], max_attempts=1) as client:
        request = PromptBatchRequest(num_tasks=4, worker="skewed", ttl_s=30.0)
        batch = client.lease_prompt_batch(sys.argv[2], request)
        assert batch.lease is not None
        beat = client.extend_lease(batch.lease.id, ExtendRequest(fence=batch.lease.fence))
        receipt = client.report_groups(batch.lease.id, report_of(batch))
    applied = [attempt.verdict for group in receipt.groups for attempt in group.attempts]
    print(json.dumps({"clock_s": time.time(), "ttl_s": beat.ttl_s, "verdicts": applied}))
