"""What becomes of images on the way out: reduced, cut to square pixels, masks beside them."""
