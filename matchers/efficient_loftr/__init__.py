"""EfficientLoFTR (Wang et al., CVPR 2024): a RepVGG backbone, attention over aggregated cells, refinement in two stages."""
