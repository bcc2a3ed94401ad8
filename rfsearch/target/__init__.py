"""The objects to see: annotations, their sizes, and the ranges of receptive fields that follow.

In go files of annotations (COCO, VOC, YOLO, LabelMe, CVAT, CSV, masks) or sizes in px; out come
`ObjectScales` and a `ScaleTarget`. Start at `target` for the rule, and at `scales` for reading
files.

Public names: `ScaleTarget`, `ObjectScales`, `read_scales`.
"""
