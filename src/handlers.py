"""What the platform calls when it runs this project from its repository: `code_src` the repository, `handler` src.handlers:preprocess_dataset.

The platform imports this file by its path, so its imports are absolute. The package is found beside it, in the repository's root.
"""
from audio_ft_prep.platform import merge_shards, preprocess_dataset

__all__ = ["merge_shards", "preprocess_dataset"]
