"""The loss against an independent oracle: TRL's own `GRPOTrainer`, value and every gradient.

The same tiny model, the same sequences, advantages and log-probabilities; what differs is all code
between them and the loss: packing, log-softmax, ratio, clip, penalties, averaging. TRL's trainer is
made once, because importing it takes seconds; its options are set as its arguments would.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from etude_trainer.batch import Group, TokenSequence
from etude_trainer.config import parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Fixed, plan_step, run_pass
from etude_trainer.stages.tally import Tally

NUM_GROUPS, GROUP_SIZE, LONGEST = 2, 4, 12

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of libraries that TRL brings in
]


@dataclass(frozen=True, slots=True)
class Case:
    """One objective, as either side names it."""

    ours: str
    """Lines of `[objective]`."""
    theirs: dict[str, Any]
    """Attributes of TRL's trainer; `delta` is of its arguments."""
    corrects: bool = False
    """Truncated importance sampling."""
    num_parts: int = 1
    """Micro-batches of TRL's; blocks of ours where normalisation is local."""


CASES = {
    "grpo": Case('variant = "grpo"', {"loss_type": "grpo"}),
    "bnpo": Case('variant = "bnpo"', {"loss_type": "bnpo"}),
    "bnpo in two blocks": Case(
        'variant = "bnpo"\nlocal_sequences = 4', {"loss_type": "bnpo"}, num_parts=2
    ),
    "dr_grpo": Case(
        f'variant = "dr_grpo"\nmax_completion_tokens = {LONGEST}', {"loss_type": "dr_grpo"}
    ),
    "dapo": Case('variant = "dapo"', {"loss_type": "dapo"}),
    "dapo in two passes": Case('variant = "dapo"', {"loss_type": "dapo"}, num_parts=2),
    "gspo": Case(
        'variant = "gspo"',
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 3e-4,
            "epsilon_high": 4e-4,
        },
    ),
    "dual clip": Case(
        'variant = "dapo"\nclip_high = 0.28\ndual_clip = 1.5',
        {"loss_type": "dapo", "epsilon_high": 0.28, "delta": 1.5},
    ),
    "kl": Case('variant = "grpo"\nkl_beta = 0.05', {"loss_type": "grpo", "beta": 0.05}),
    "kl and a sequence's ratio": Case(
        'variant = "gspo"\nkl_beta = 0.05',
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 3e-4,
            "epsilon_high": 4e-4,
            "beta": 0.05,
        },
    ),
    "importance weights": Case(
        'variant = "dapo"\nimportance_cap = 2.0', {"loss_type": "dapo"}, corrects=True
    ),
    "entropy bonus": Case(
        'variant = "dapo"\nentropy_coef = 0.01',
        {"loss_type": "dapo", "entropy_coef": 0.01, "_entropy_bonus_enabled": True},
    ),
}

PLAIN: dict[str, Any] = {
    "importance_sampling_level": "token",
    "epsilon_low": 0.2,
    "epsilon_high": 0.2,
    "beta": 0.0,
    "entropy_coef": 0.0,
    "_entropy_bonus_enabled": False,
    "delta": None,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Random sequences with everything a loss may ask for."""

    prompts: list[list[int]]
    completions: list[list[int]]
    rewards: list[float]
    shift_old: list[Tensor]
    """lp_old - lp_new of each token."""
    shift_ref: list[Tensor]
    shift_rollout: list[Tensor]

    def groups(self) -> tuple[Group, ...]:
        """As the trainer decodes them."""
        found = []
        for first in range(0, len(self.prompts), GROUP_SIZE):
            part = range(first, first + GROUP_SIZE)
            rewards = tuple(self.rewards[s] for s in part)
            found.append(
                Group(
                    task_id=f"task_{first}",
                    lane="uniform",
                    staleness=0,
                    rewards_G=rewards,
                    rule_rewards_G=rewards,
                    successes_G=(False,) * GROUP_SIZE,
                    components={},
                    sequences=tuple(self._sequence(s) for s in part),
                )
            )
        return tuple(found)

    def _sequence(self, s: int) -> TokenSequence:
        tokens_T = np.array(self.prompts[s] + self.completions[s], dtype=np.int32)
        trained_T = np.arange(len(tokens_T)) >= len(self.prompts[s])
        return TokenSequence(tokens_T, trained_T, np.zeros(len(tokens_T), np.float32))


def make_batch(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    prompts: list[list[int]] = []
    completions: list[list[int]] = []
    for _ in range(NUM_GROUPS):
        prompt = rng.integers(2, 512, size=int(rng.integers(3, 9))).tolist()
        prompts += [prompt] * GROUP_SIZE
        lengths = rng.integers(1, LONGEST + 1, size=GROUP_SIZE)
        completions += [rng.integers(2, 512, size=int(n)).tolist() for n in lengths]

    def shifts(scale: float) -> list[Tensor]:
        return [
            torch.from_numpy(rng.normal(0.0, scale, size=len(c)).astype(np.float32))
            for c in completions
        ]

    rewards = rng.normal(size=len(prompts)).tolist()
    return Batch(prompts, completions, rewards, shifts(0.4), shifts(0.3), shifts(0.5))


@dataclass(frozen=True, slots=True)
class Oracle:
    """TRL's trainer and the directory of its model."""

    trainer: Any
    folder: Path


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """TRL's trainer on the tiny model."""
    from datasets import Dataset  # type: ignore[import-untyped]
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    from support.tiny_model import save_tiny_model

    folder = save_tiny_model(tmp_path_factory.mktemp("oracle"))
    words = Tokenizer(WordLevel({"<eos>": 1, "x": 2}, unk_token="x"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")
    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("out")),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=NUM_GROUPS * GROUP_SIZE,
        num_generations=GROUP_SIZE,
        max_completion_length=LONGEST,
        use_bias_correction_kl=False,
        gradient_checkpointing=False,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "x"}] * 8),
        processing_class=tokenizer,
    )
    trainer.model.train()
    return Oracle(trainer, folder)


def pad(rows: list[list[int]], *, left: bool) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids, mask = torch.zeros((2, len(rows), width), dtype=torch.int64)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[number, place] = torch.tensor(row)
        mask[number, place] = 1
    return ids, mask


def padded(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def theirs(
    oracle: Oracle, case: Case, batch: Batch, *, advantages_S: Tensor, lp_new: list[Tensor]
) -> tuple[float, dict[str, Tensor]]:
    """TRL's loss and gradients, over its micro-batches."""
    trainer = oracle.trainer
    for name, value in {**PLAIN, **case.theirs}.items():
        setattr(trainer.args if name == "delta" else trainer, name, value)
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = case.corrects
    trainer.current_gradient_accumulation_steps = case.num_parts
    trainer.args.steps_per_generation = case.num_parts
    prompt_ids, prompt_mask = pad(batch.prompts, left=True)
    completion_ids, completion_mask = pad(batch.completions, left=False)
    lp_old = [lp + shift for lp, shift in zip(lp_new, batch.shift_old, strict=True)]
    inputs = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": advantages_S.float(),
        "old_per_token_logps": padded(lp_old),
        "ref_per_token_logps": padded(
            [lp + shift for lp, shift in zip(lp_new, batch.shift_ref, strict=True)]
        ),
        "importance_sampling_ratio": padded(
            [shift.exp().clamp(max=2.0) for shift in batch.shift_rollout]
        ),
    }
    trainer.model.zero_grad(set_to_none=True)
    total = 0.0
    size = len(batch.prompts) // case.num_parts
    for first in range(0, len(batch.prompts), size):
        part = {name: tensor[first : first + size] for name, tensor in inputs.items()}
        part["num_items_in_batch"] = completion_mask.sum().float()
        loss = trainer.compute_loss(trainer.model, part)
        loss.backward()
        total += float(loss.detach())
    gradients = {
        name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None
    }
    return total, gradients


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_agree(oracle: Oracle, name: str) -> None:
    case = CASES[name]
    number = list(CASES).index(name)
    batch = make_batch(seed=number)
    off = [
        f"{key} = 0.0" for key in ("importance_cap", "entropy_coef") if f"{key} =" not in case.ours
    ]
    objective = "\n".join(["[objective]", case.ours, *off])
    sharing = f"[batch]\nshare_prompts = {str(number % 2 == 0).lower()}"
    config = parse_config(f"{objective}\n{sharing}\n")
    learner = build_learner(oracle.folder, config, device="cpu")
    plan = plan_step(batch.groups(), learner)
    (update,) = plan.updates
    lp_N = torch.zeros(len(plan.table.sequence_N))
    with torch.no_grad():
        for micro in update.micro_batches:
            lp_N[micro.token_n] = learner.policy.token_logprobs(micro)[0]
    lengths = plan.table.lengths_S.tolist()
    lp_old_N = lp_N + torch.cat(batch.shift_old)
    fixed = Fixed(lp_old_N, lp_N + torch.cat(batch.shift_ref))
    plan.table.lp_rollout_N[:] = lp_old_N - torch.cat(batch.shift_rollout)
    tally = Tally()
    for micro in update.micro_batches:
        run_pass(learner, plan, update, micro, fixed=fixed, tally=tally)
    loss, gradients = theirs(
        oracle,
        case,
        batch,
        advantages_S=plan.credit.advantages_S,
        lp_new=list(lp_N.split(lengths)),
    )
    assert tally.loss == pytest.approx(loss, abs=2e-6)
    own = dict(learner.policy.module.named_parameters())
    assert gradients.keys() == own.keys()
    for parameter, gradient in gradients.items():
        grad = own[parameter].grad
        assert grad is not None
        torch.testing.assert_close(grad, gradient, atol=1e-6, rtol=1e-4, msg=parameter)
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 1e-3
