"""What a process does once before it forks others, again and again."""

import gc


def prepare_to_fork() -> None:
    """To be called when everything is there that forks will find."""
    gc.collect()
    # A collection in a fork would write into, and so copy, every page that holds an object.
    gc.freeze()
