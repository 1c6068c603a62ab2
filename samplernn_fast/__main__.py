"""`python -m samplernn_fast`: the same program as `samplernn-fast`."""

from samplernn_fast.commands.main import main

if __name__ == "__main__":
    main()
