"""Made-up token sequences for trainer tests: a common prompt and branches of given lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from etude_trainer.batch import TokenSequence


def branches(
    num_prompt: int, lengths: Sequence[int], *, seed: int = 0, vocab_size: int = 512
) -> list[TokenSequence]:
    """One sequence a length: the same prompt, then tokens of its own, all of them trained."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(2, vocab_size, size=num_prompt)
    found = []
    for length in lengths:
        tokens_T = np.concatenate([prompt, rng.integers(2, vocab_size, size=length)])
        trained_T = np.arange(len(tokens_T)) >= num_prompt
        lp_T = np.where(trained_T, np.float32(-np.log(vocab_size)), np.float32(0.0))
        found.append(TokenSequence(tokens_T.astype(np.int32), trained_T, lp_T))
    return found
