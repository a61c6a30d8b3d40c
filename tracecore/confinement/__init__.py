"""What may an agent process touch, and what holds it to that?"""
