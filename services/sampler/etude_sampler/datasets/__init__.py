"""Converters from public data sets and from files to tasks (`etude import`).

Invariants: a bad row never ends an import; every bad row has its line, a JSON pointer into the
row as it stands in the file, and a reason; the same row gives the same task and the same split
on every machine. `rows` holds the stream's types, one module each the formats (`bfcl`, `rlla`,
`jsonl`), `upload` sends what they yield, `cli` is the command line.
"""
