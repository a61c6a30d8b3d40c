"""What is written of a slice, and how is it read back?"""
