"""A game in the terminal: a person plays it, or watches a trained policy play."""
