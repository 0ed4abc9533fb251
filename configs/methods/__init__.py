"""Presets of the methods, one YAML file each."""
