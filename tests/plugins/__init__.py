"""Environments as other people write them, each with one peculiarity; used as `module:Id-v0`."""
