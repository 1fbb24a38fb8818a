"""`make rehearse`: our images, built; the compose file: up, killed piece by piece, taken down.

`__main__` is the order of events, `needs` what a machine must have, `bases` the images that stand
in for those of registries, `engine` a container engine of its own, `scene` what runs inside it.
"""
