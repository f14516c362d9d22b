"""The miniature's weights: `mini-sd` (diffusers layout) and `mini-clip` (open_clip's local-dir layout). No code."""
