"""The command `hf-fusion`: one module a command, which parses, calls the library and prints.

Every module here imports the library inside its functions, so that help does not wait for it.
"""
