from hypothesis import settings

# No deadline: shared machines pause, and the first call of torch or of an import takes a second.
settings.register_profile("shared", deadline=None, max_examples=40)
settings.load_profile("shared")
