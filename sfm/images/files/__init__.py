"""Image files: formats by content and by name, RAW images, and values of more than 8 bits."""
