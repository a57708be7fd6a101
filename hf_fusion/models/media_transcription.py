class Transcriber: pass
