"""Weight transfer inside vLLM's processes: the only file that imports vLLM.

vLLM calls `register` in each of its processes (entry point group `vllm.general_plugins`);
`engines/vllm_weights.py` drives the transfer over vLLM's own routes: start -> update -> pause ->
finish -> reset prefix cache -> resume. Until `finish` the model is not touched, so a refused or
broken update leaves the old weights serving; `finish` has nothing left to refuse (platform.md
section 4) but an update that another worker's has replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .receiving import parse_transfer
from .staging import BACKEND, NOTHING_STAGED, Stage

if TYPE_CHECKING:
    import torch
    from vllm.distributed.weight_transfer.base import WeightTransferEngine


def register() -> None:
    """Make the backend known to this process; vLLM calls it, any number of times."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, engine_class())


def engine_class() -> type[WeightTransferEngine]:
    """The transfer engine of all our channels; made here, for its base class is vLLM's."""
    from vllm.distributed.weight_transfer.base import (
        WeightTransferEngine,
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )

    @dataclass
    class Init(WeightTransferInitInfo):  # type: ignore[misc]  # vLLM is not here
        """Body of `/init_weight_transfer_engine`."""

        root: str

    @dataclass
    class Update(WeightTransferUpdateInfo):  # type: ignore[misc]
        """Body of `/update_weights`: a directory below the root, or an open transfer."""

        path: str | None = None
        transfer: dict[str, object] | None = None

    class Receiver(WeightTransferEngine[Init, Update]):  # type: ignore[misc]
        """Takes published weights; one of these lives in each of vLLM's workers."""

        init_info_cls = Init
        update_info_cls = Update
        supports_draft_weight_update = False
        _stage: Stage | None = None

        def init_transfer_engine(self, init_info: Init) -> None:
            """Remember the root and the served checkpoint's shapes; may be repeated."""
            self._stage = Stage(Path(init_info.root), Path(self.model_config.model))

        def start_weight_update(self) -> None:
            """Empty the stage; the model stays as it is."""
            self._staged().drop()

        def update_weights(self, update_info: dict[str, object]) -> None:
            """Stage and check a version. The base class would synchronise an accelerator here,
            which raises on a CPU."""
            self.receive_weights(self.parse_update_info(update_info))

        def receive_weights(self, update_info: Update) -> None:
            """Stage and check a version."""
            stage = self._staged()
            if update_info.transfer is None:
                stage.receive(update_info.path or "")
                return
            place = self.parallel_config
            rank = 1 + place.data_parallel_index * place.world_size + place.rank
            transfer = parse_transfer(update_info.transfer)
            stage.receive_transfer(transfer, rank=rank, device=self.device)

        def finish_weight_update(self) -> None:
            """Swap the staged weights in; none are there if another update has come between."""
            weights = self._staged().take()
            if not weights:
                raise RuntimeError(NOTHING_STAGED)
            swap_in(self.model, self.model_config, weights)

        def shutdown(self) -> None:
            """Forget what was staged."""
            self._stage = None

        def _staged(self) -> Stage:
            if self._stage is None:
                raise RuntimeError("init_weight_transfer_engine comes first")
            return self._stage

    return Receiver


def swap_in(
    model: torch.nn.Module, model_config: object, weights: list[tuple[str, torch.Tensor]]
) -> None:
    """Load checkpoint tensors into a live vLLM model.

    On a CPU, vLLM computes the output layer from a packed copy of its weight. A reload through a
    tied embedding leaves that copy stale, so it is packed anew (platform.md section 4).
    """
    import torch
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.model_executor.model_loader.reload import (
        finalize_layerwise_reload,
        initialize_layerwise_reload,
    )
    from vllm.platforms import current_platform

    initialize_layerwise_reload(model)
    model.load_weights(weights)  # type: ignore[operator]  # of vLLM's model classes
    finalize_layerwise_reload(model, model_config)
    if not current_platform.is_cpu():
        torch.accelerator.synchronize()
        return
    for layer in model.modules():
        if isinstance(layer, ParallelLMHead) and hasattr(layer, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
