"""The commands of `sesa-agent`, one file each; `cli.py` defines their options."""
