"""How the policy learns: credit, loss, batches, the loop."""
