"""How does the same slice run on a Dask cluster?"""
