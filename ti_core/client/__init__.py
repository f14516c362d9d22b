"""The client: find, fetch and verify published words, keep a folder of them up to date, load them into a pipeline.

This is all an inference service needs. It reads the store and nothing else: no torch, no MLflow, no orchestrator;
boto3 is imported only for a store in S3.

    from ti_core.client import get, load_words
    pipeline.load_textual_inversion(get("cat-toy"))     # a file, verified
    load_words(pipeline, "a photo of <cat-toy>")        # all words of a prompt, in either kind of pipeline
"""

from ti_core.client.fetching import Synced, champion, concepts, get, get_many, noticed, sync, vectors, words, words_in
from ti_core.client.hub import hub_folder
from ti_core.client.loading import load_words

__all__ = [
    "Synced",
    "champion",
    "concepts",
    "get",
    "get_many",
    "hub_folder",
    "load_words",
    "noticed",
    "sync",
    "vectors",
    "words",
    "words_in",
]
