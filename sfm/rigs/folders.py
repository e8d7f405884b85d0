"""The folders of a run's output in which the cube faces of panoramas, and of their masks, are."""

FACES, FACE_MASKS = "cube_faces", "cube_face_masks"
