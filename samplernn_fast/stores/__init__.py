"""Addresses such as s3://bucket/run in place of paths: what is read is brought here, what is made here is sent there.

`addresses` tells an address from a path and keeps which local copy stands for which, `store` is the one door to fsspec.
`reading` brings files and folders into the cache, `sending` is a folder to write into whose files go to an address, and
`running` keeps a training run at an address in a local folder, which `lease` guards. Read `addresses` first.
"""
