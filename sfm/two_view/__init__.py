"""Two images: matches, fundamental matrix, relative pose, figures."""
