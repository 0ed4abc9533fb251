"""The games of this package: pure rules, with the environment below or in a file beside them."""
