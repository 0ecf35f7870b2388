"""Samples from pictures, sounds and loaders, as `calibration=` and `evaluate` take them.

Pictures need pillow and sounds soundfile, which `pip install 'qcomp[data]'` brings; each is
imported when the first file is opened.

>>> import qcomp
>>> photos = qcomp.data.images("photos/", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
>>> net = qcomp.compile("net.onnx", calibration=photos)
"""

from qcomp.data.images import images
from qcomp.data.mapped import samples
from qcomp.data.sounds import sounds
from qcomp.preprocessing import Preprocessing

__all__ = ["Preprocessing", "images", "samples", "sounds"]
