"""Fine-tuning on instruction data."""
