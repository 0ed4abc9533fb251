"""Games in the terminal: a person plays, or watches a trained policy play."""
