"""Many ranks, one trainer: FSDP2 under `torchrun`, on one node or many.

Rank 0 leads: it alone talks to the sampler, decides and writes the journal; the others follow its
orders (`team.py`). Everything about processes is `crew.py`, about parameters `sharding.py`, about
who computes what `shares.py`. With one process nothing of this does anything.
"""
