"""Does the slice hold what was asked of it?"""
