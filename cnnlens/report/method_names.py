"""What methods are called on the page, where one section has pictures of several."""

from __future__ import annotations

#: by the settings of `deconv` and `evolve`
PROJECTIONS = {
    "deconvnet": "DeconvNet",
    "guided": "guided backpropagation",
    "gradient": "the plain gradient",
}
#: what their pictures show of an image: a gradient is of what is there and of what is not
SHOWN = {"gradient": "what would change the unit"}
USUALLY_SHOWN = "what drove the unit"
#: by those of `cam`
CLASS_MAPS = {"cam": "class activation maps", "gradcam": "Grad-CAM"}
#: by those of `visualize`; what is usual there needs no name
OPTIMIZED = {"generator": "by a generator", "maco": "by phases alone (MaCo)"}
