"""What would an image look like had one machine processed them all? Equal spread in every octave of detail, equal share of every gray."""

from __future__ import annotations

import cv2
import numpy as np

# Standard deviations of the Gaussians that part the octaves, in pixels of an image with sides of 224.
SCALES, SIDE = (1, 2, 4, 8, 16), 224
# Mean spread of each octave, finest first, in 238 training images of the public set; what is left has a little less than its 0.126
# there. Of the gray range.
SPREADS, COARSE = (0.0121, 0.0136, 0.0217, 0.0297, 0.0397), 0.12
MARGIN = 0.09  # of the side: where spreads are not measured, since collimation and markers lie there
LEAST, LEAST_COARSE = 0.003, 0.01  # added to measured spreads, so that empty octaves are not blown up


def harmonised(gray: np.ndarray) -> np.ndarray:
    """Gray pixels, uint8 (S, S), without their machine's processing: every octave of detail brought to the spread that training
    images have on average, then the histogram equalised.

    Machines differ in how they sharpen and in their gray-value curves, and here machines go with the class. Energy-based
    normalisation (Philipsen et al. 2015), of whole images instead of regions; histogram equalisation (Hummel 1977) undoes
    whatever rising curve the gray values went through. Spreads are of all but the outer MARGIN, the histogram is of the whole image, so a finding
    changes grays far from it: what is told with the lungs blacked out may then be told by the lungs.
    """
    margin = round(MARGIN * len(gray))
    centre = (slice(margin, len(gray) - margin),) * 2
    given = (gray / 255).astype(np.float32)
    smooth, total = given, np.zeros_like(given)
    for scale, spread in zip(SCALES, SPREADS, strict=True):
        finer, smooth = smooth, cv2.GaussianBlur(given, (0, 0), scale * len(gray) / SIDE)
        octave = finer - smooth
        total += octave * (spread / (octave[centre].std() + LEAST))
    coarse = smooth - smooth[centre].mean()
    total += coarse * (COARSE / (coarse[centre].std() + LEAST_COARSE))
    return cv2.equalizeHist(np.clip(255 * total + 128, 0, 255).astype(np.uint8))
