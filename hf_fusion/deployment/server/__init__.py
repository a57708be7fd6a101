"""`hf-fusion serve`: a checkpoint behind HTTP. [`Batcher`] joins requests and knows nothing of HTTP, the other modules
are the web application around it."""
