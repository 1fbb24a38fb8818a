"""A run as files: `manifest` (what is in it), `container` (folder or tar), `transfer` (to and from
PostgreSQL), `cli` (`etude runs export` and `import`). Rows are read and written by
`store.postgres.archive` and `archive_loading`; this package knows files only.
"""
