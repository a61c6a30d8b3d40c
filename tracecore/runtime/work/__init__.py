"""How much does an episode execute?"""
