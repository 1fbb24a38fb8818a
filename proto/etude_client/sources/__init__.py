"""Rows from where people have them: files, data sets of Hugging Face's, Python iterators.

`files` (with `arrays`) and `tables` yield numbered objects, `values` makes their values JSON,
`reading` turns them into tasks by a shape or a mapping of columns (`etude_proto.rows`), `upload`
sends tasks, `progress` shows how far that is. The curriculum's client and `etude import` both use
it. pyarrow, zstandard and datasets are never imported unless a file or an object needs them.
"""
