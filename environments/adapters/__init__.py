"""Environments of other packages: found, given words, and kept from harming a run."""
