"""Presets for models of a size on one or eight GPUs, one YAML file each, over what they share."""
