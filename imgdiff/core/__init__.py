"""Records, geometry, identity and storage: what every room shares, without deep learning."""
