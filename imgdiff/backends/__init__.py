"""The only door to models and generators; everything behind one-call protocols."""
