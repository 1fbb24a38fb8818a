"""What a model directory is, in few words: digest of its weights, quantisation, policy version.

Written into the head of every file of answers, so that answers of two checkpoints are never mixed
and every result says which precision it was made in. Used by `running.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

_EDGE_BYTES = 1 << 20
_PUBLISHED = re.compile(r"^v(\d{6,})-")
"""Directories of weights that a trainer publishes."""


def weights_digest(model_dir: Path) -> str:
    """Of configuration, tokenizer and weights: names, sizes, and both ends of every file.

    The ends are a mebibyte each: trained weights differ everywhere, and nobody waits for a digest
    of a hundred gigabytes.
    """
    digest = hashlib.sha256()
    for path in sorted(model_dir.iterdir()):
        if path.suffix in (".safetensors", ".json") and path.is_file():
            size = path.stat().st_size
            digest.update(f"{path.name}:{size}:".encode())
            with path.open("rb") as stream:
                digest.update(stream.read(_EDGE_BYTES))
                stream.seek(max(0, size - _EDGE_BYTES))
                digest.update(stream.read(_EDGE_BYTES))
    return f"sha256:{digest.hexdigest()[:16]}"


def quantisation(model_dir: Path) -> str | None:
    """How the checkpoint says it is quantised, such as `awq` or `gptq`; null if it is not."""
    try:
        config = json.loads((model_dir / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    about = config.get("quantization_config") if isinstance(config, dict) else None
    if not isinstance(about, dict):
        return None
    bits = f"-{about['bits']}bit" if isinstance(about.get("bits"), int) else ""
    return f"{about.get('quant_method', 'quantised')}{bits}"


def published_version(model_dir: Path) -> int | None:
    """Policy version of a directory that a trainer published, by its name."""
    found = _PUBLISHED.match(model_dir.resolve().name)
    return int(found[1]) if found else None
