"""The commands of `sesa-agent`, a file each; `cli.py` says what can be typed."""
