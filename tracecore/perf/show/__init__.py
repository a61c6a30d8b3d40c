"""How is a slice shown to people and to other tools?"""
