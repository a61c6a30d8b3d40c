"""How does a confined agent reach a model or a host, and what is kept of its calls?"""
