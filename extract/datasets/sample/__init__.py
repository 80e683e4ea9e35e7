"""A synthetic data set in the layout of PKU-AIGIQA-4K, for trying the program without a download.

scenes.py holds the subject of an image, drawing.py draws it, degradation.py damages it, ratings.py simulates
the scores, rows.py puts the rows together, and write.py writes the files.

Every image shows a `Scene`, which is described by the text prompt alone, in a `Style`, which is shown by the
image prompt alone, damaged by a `Degradation`. A simulated score is

    MOS = clip(0.5 + 4 g + (e_1 + ... + e_n) / n, 0, 5),    e_k ~ N(0, 0.6^2) for each of n = 20 raters,

where the goodness g in [0, 1] is, with [x] = 1 if x is wrong and else 0,

    MOS_q:  g = 1 - (0.5 blur + 0.3 noise + 0.2 fade)
    MOS_c:  g = 1 - (0.8 missing shapes / 3 + 0.1 [colour] + 0.1 [shape])     against the text prompt
    MOS_a:  g = 1 - lost age / 0.6                                            against the image prompt's style
            g = 1 - glitch                                                    in rows without an image prompt

A shortfall (missing shapes, lost age) is independent of the content of the image: if the drawn amount x and
the shortfall d are to be independent and uniform, the requested amount must be distributed as x + d, and d
given that sum is uniform where both x and d stay in their ranges. A wrong colour or shape is uniform on the
others.
A wrong image is therefore distributed as a right one, whatever its generator: the image alone does not
predict MOS_c, which needs the text, nor the MOS_a of an image-to-image row, which needs the image prompt.
The price: a prompt that asks for much is more often fallen short of (nine shapes are never drawn), so the
text alone hints at MOS_c, and the image prompt alone at MOS_a.

The workbook carries the time at which it was written; its table and all other files are the same for the same
seed and the same versions of NumPy and Pillow.
"""

from tier4k.extract.datasets.sample.write import write_sample

__all__ = ["write_sample"]
