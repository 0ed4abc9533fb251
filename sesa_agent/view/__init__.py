"""`sesa-agent view`: the saved trees of a run, in a browser or in the terminal."""
