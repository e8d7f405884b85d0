"""EfficientLoFTR (Wang et al., CVPR 2024): RepVGG, attention over aggregated cells, refinement in two stages."""
