"""What does it look like? The pictures of a slice, as SVG."""
