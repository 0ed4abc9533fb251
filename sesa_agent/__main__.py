"""`python -m sesa_agent` is `sesa-agent`."""

from .cli import main

if __name__ == "__main__":
    main()
