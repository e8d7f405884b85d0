"""Cameras that are mounted together: folders of equal names, COLMAP's rig_config.json, and panoramas as cube faces."""
