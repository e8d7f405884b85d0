"""Pure geometry on arrays: epipolar geometry, focal lengths from F, two-view geometry."""
