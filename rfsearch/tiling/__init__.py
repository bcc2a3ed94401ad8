"""Large images in tiles: what a network that is trained already must see around each of them.

In goes a module that gives one map; out come the halo that its receptive field asks for (`_halo`),
tiles that fit the memory (`plan`), and the map of an image put together of those of its tiles
(`tiled`). Start at `tiled`.
"""
