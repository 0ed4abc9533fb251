"""Trains the bundled models: next-token prediction on the play of scripted players."""
