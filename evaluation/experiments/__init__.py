"""Experiments: arms that are trained and measured alike, and how their results are told apart."""
