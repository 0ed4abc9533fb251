"""How we know: success rates, their intervals, pass@k."""
