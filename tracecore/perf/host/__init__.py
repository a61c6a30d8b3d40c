"""What machine is this, and how busy is it?"""
