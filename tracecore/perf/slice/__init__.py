"""What was asked for, and how far has it come?"""
