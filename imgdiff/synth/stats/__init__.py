"""Pictures of the data: what a finished synthesis run holds, as one page and as numbers."""
