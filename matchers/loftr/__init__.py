"""LoFTR (Sun et al., CVPR 2021), split into what an image needs once and what a pair needs."""
