"""Environments in which an agent calls tools: plain Python functions."""
