"""Experiments: arms that are trained and measured alike, and the comparison of their results."""
