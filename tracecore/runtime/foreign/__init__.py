"""How is code that is not ours heard: its words, its prints, its failures, its depth?"""
