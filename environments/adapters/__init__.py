"""Environments of other packages: found by id, given a text interface, and guarded."""
