"""What can be set, and how a run's configuration is put together. Needs no torch."""
