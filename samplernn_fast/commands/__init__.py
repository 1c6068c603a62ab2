"""The command line. Each command has a file; `main` chooses one, and `flags` turns flags into arguments.

A command checks its flags, calls the room that does the work, and prints. Read `main` first.
"""
