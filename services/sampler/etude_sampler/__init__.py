"""The sampler: decides what a policy practises next and serves it in batches."""
