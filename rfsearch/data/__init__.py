"""Images with their truth, and how they reach the device: folders, tiles, scenes, caches.

In go files or packages; out come datasets split for training and validation, in memory or read
while a network learns. Start at `datasets`, then `tile_data` for large annotated images.

Public names: `digit_scenes`, `make_scenes`, `image_folder`, `coco_images`, `voc_images`,
`masked_images`, `nuclei`, `trees`, `buildings`, `BoxedImage`, `MaskedImage`, `Tiling`,
`AreaTiling`, `detection_data`, `segmentation_data`.
"""
