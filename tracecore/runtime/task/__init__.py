"""What is a task, where does it lie, and what of it runs?"""
