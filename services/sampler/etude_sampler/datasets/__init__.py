"""`etude import`: the command line over the converters of `etude_proto.rows`.

`cli` is the command line, `bfcl` finds BFCL's files, `report` says what became of an import,
`task_schema` is the JSON Schema of a line, `features` what curricula may predict from. Reading and
sending rows is `etude_client.sources`, as for a trainer's client.
"""
