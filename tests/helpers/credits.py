"""What a credit rule makes of a tree, whose returns are read for it."""

from sesa_agent.training.advantages import leaf_returns


def credit_of(rule, tree, cfg):
    return rule(tree, leaf_returns(tree, cfg.format_penalty), cfg)
