FACE_COLUMNS = tuple(f"f{i}" for i in range(57)) + ("face",)


class FaceFrames:
    pass


class FaceNetworks:
    pass
