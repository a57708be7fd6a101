"""Audio and video files to streams of features over time: extractors, folders of videos, caches."""
