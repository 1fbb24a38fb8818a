"""TRL's GRPOTrainer with a curriculum, on a policy small enough for any CPU.

The policy, random at first, learns three skills over digits ("copy 7", "next 7", "zero 7"); two
reward functions score it. What Etude adds is marked; the rest is TRL as everybody writes it. Run it
where trl and etude-sampler are installed:

    python train.py --output out                 # with a sampler of its own under out/etude
    python train.py --output out --resume        # goes on where a killed run was saved
    python train.py --output other --no-curriculum
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

from etude_client.adapters.trl import add_curriculum  # Etude

DIGITS = [str(digit) for digit in range(10)]
SKILLS = {"copy": lambda digit: digit, "next": lambda digit: (digit + 1) % 10, "zero": lambda _: 0}


def make_policy(seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random policy of a hundred thousand weights, and a tokenizer of words."""
    words = ["<pad>", "<eos>", *SKILLS, *DIGITS]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config), fast


def make_rows() -> Dataset:
    """Thirty prompts with their answers."""
    return Dataset.from_list(
        [
            {"prompt": f"{name} {digit}", "answer": str(skill(digit)), "skill": name}
            for name, skill in SKILLS.items()
            for digit in range(10)
        ]
    )


def is_digit(completions: list[str], **_: object) -> list[float]:
    """Whether the first word is a digit."""
    return [float(text.split()[:1] != [] and text.split()[0] in DIGITS) for text in completions]


def is_right(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """Whether the first word is the answer."""
    return [
        float(text.split()[:1] == [want]) for text, want in zip(completions, answer, strict=True)
    ]


def main() -> None:
    """Train."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, default=Path("out"), help="folder for checkpoints")
    options.add_argument("--steps", type=int, default=200, help="optimizer steps in all")
    options.add_argument("--save-every", type=int, default=20, help="steps between checkpoints")
    options.add_argument("--batch", type=int, default=128, help="completions a step and device")
    options.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    options.add_argument("--url", help="of a sampler; default: one of its own")
    options.add_argument("--no-curriculum", action="store_true", help="TRL's own shuffle instead")
    options.add_argument("--on-outage", choices=["wait", "uniform"], default="wait")
    options.add_argument("--patience", type=float, default=10.0, help="seconds until --on-outage")
    args = options.parse_args()

    model, tokenizer = make_policy()
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=[is_digit, is_right],
        train_dataset=make_rows(),
        args=GRPOConfig(
            output_dir=str(args.output),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch,
            num_generations=16,
            max_completion_length=1,
            learning_rate=2e-3,
            lr_scheduler_type="constant",
            save_steps=args.save_every,
            logging_steps=10,
            disable_tqdm=True,
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            seed=1,
        ),
    )
    if not args.no_curriculum:
        where = {"url": args.url} if args.url else {"local": args.output / "etude"}  # Etude
        curriculum = add_curriculum(  # Etude
            trainer,  # Etude
            args.output.name,  # Etude
            source="skill",  # Etude
            on_outage=args.on_outage,  # Etude
            patience_s=args.patience,  # Etude
            **where,  # Etude
        )  # Etude
    trainer.train(resume_from_checkpoint=get_last_checkpoint(args.output) if args.resume else None)
    if not args.no_curriculum:
        for subtask in curriculum.curriculum.view().subtasks:
            print(f"{subtask.name}: mastery {subtask.mastery:.2f}")
        print(f"groups drawn without the sampler: {curriculum.curriculum.status.num_alone}")
        curriculum.close()


if __name__ == "__main__":
    main()
