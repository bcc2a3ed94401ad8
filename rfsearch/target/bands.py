"""What a layer can see: edges, textures, parts or objects. A rule of thumb.

In the network of Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV
2014, layers 1 and 2 answer to edges, corners and colours, layer 3 to textures, layer 4 to parts
and layer 5 to whole objects (their figure 2). The receptive fields of these layers are 7, 27, 75,
107 and 139 px, at an image of 224 px that its object about fills. The bounds between the bands
are the geometric means of the neighbours' receptive fields, relative to the image: 0.20, 0.40 and
0.54. A receptive field is what a layer *can* see: a layer of a deep network may do less.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

from rfsearch.field.receptive_field import stack, window

_IMAGE = 224
_WINDOWS = (window(7, 2), window(3, 2), window(5, 2), window(3, 2), *[window(3)] * 3)
#: Receptive fields of the five convolutions, in px; a pooling follows each of the first two.
LAYER_SIZES = tuple(stack(_WINDOWS[:depth]).size for depth in (1, 3, 5, 6, 7))
#: Names of the bands, from the smallest receptive fields to the largest.
BANDS = ("edges", "textures", "parts", "objects")
#: Where each band but the last ends, relative to the object.
BOUNDS = tuple(sqrt(below * above) / _IMAGE for below, above in pairwise(LAYER_SIZES[1:]))


def band(size: float, object_size: float) -> str:
    """What a unit can see of an object.

    Args:
        size: The unit's theoretical receptive field, in px.
        object_size: Side of the object, in px; of the image, if its objects fill it.

    >>> [band(size, 100) for size in (10, 30, 50, 80)]
    ['edges', 'textures', 'parts', 'objects']
    """
    return BANDS[sum(size >= bound * object_size for bound in BOUNDS)]
