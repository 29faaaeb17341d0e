"""A checkpoint in another format: adapters merged, the authors' own layouts, and the way in."""
