"""Weight channels: how published weights reach an engine, and the proof that they did.

`disk.py` finds published directories, `files.py` reads them, `parity.py` compares the engine's
log-probabilities with the trainer's, `loader.py` puts the three together for the worker.
`vllm_plugin.py` is the other end inside vLLM's processes, and the only file that imports vLLM.
"""
