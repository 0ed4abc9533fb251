"""Our games: pure rules, with the environment below them or in a file beside them."""
