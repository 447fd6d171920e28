"""Settings of the services: INI files become frozen pydantic models with units in the attributes' names.

`coord.load_coord(path)` and `measurer.load_measurer(path)` read a file over the defaults that stand beside each
model; `ini` does the reading and turns every fault into one line; `networks` is the measurer's list of permitted
targets; `examples/` holds the commented files that `flashflow init` writes.
"""
