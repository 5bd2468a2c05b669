"""Look at a model: transferability, loss landscape, saliency, each with its picture."""
