"""What is an agent, and how does an episode reach it in a process of its own?"""
