"""Environments in worker processes: stepped side by side, and their crashes survived.

A worker holds at most one live environment and owns no game: the parent describes the state that a
call is for (`states.py`), any free worker brings it to life, and the result is a new state. So the
number of live environments is at most the number of workers, however many games are in progress.

`pooled_env.py` is the environment that samplers see, `pool.py` chooses the worker, `process.py` is
a worker as its parent sees it, `worker.py` what runs there.
"""
