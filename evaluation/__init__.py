"""Evaluation: success rates, confidence intervals, pass@k, comparisons."""
