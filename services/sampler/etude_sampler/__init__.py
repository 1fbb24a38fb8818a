"""The sampler: decides what a policy practises next and serves it in batches."""

__version__ = "0.1.0"
"""Package version; the wire contract has its own (`etude_proto.CONTRACT_VERSION`)."""
