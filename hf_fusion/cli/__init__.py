"""The command `hf-fusion`: one module per command, which parses, calls the library and prints.

Every module here imports the library inside its functions, so that help does not wait for it.
"""
