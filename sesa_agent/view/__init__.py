"""`sesa-agent view`: the saved trees of a run, to be walked through in a browser or a terminal."""
