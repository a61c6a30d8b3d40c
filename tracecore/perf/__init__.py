"""A slice: plan, run, reduce, write, judge."""
