"""Search network architectures whose receptive field fits the objects they must see.

Names are loaded when first used: `import rfsearch` imports neither torch nor pandas. The stub
beside this file, `__init__.pyi`, says where each is defined.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("rfsearch")
