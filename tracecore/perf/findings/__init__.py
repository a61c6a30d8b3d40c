"""What would a reviewer notice in the rows of a slice?"""
