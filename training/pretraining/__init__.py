"""Makes the bundled models: next-token training on the play of scripted players."""
