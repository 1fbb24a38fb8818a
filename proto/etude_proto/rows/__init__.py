"""Rows of public data sets and of users' own as tasks: pure functions, one module a shape.

Invariants: a bad row never ends an import; every bad row has its number, a JSON pointer into the
row as it stands in the file, and a reason; the same row gives the same task and the same split on
every machine. `stream` holds the types of a row stream, `shapes` recognises a row and knows every
converter, `columns` maps columns of one's own, `finishing` is the last step of all. The client
(`etude_client.sources`) and `etude import` read rows through it.
"""
