class Transcriber:
    pass
