"""How does a command line become a call, and its end an exit code?"""
