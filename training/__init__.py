"""Trains the policy: credit, loss, batches and the loop."""
