"""What a night in which nothing is new asks of S3, counted on a real server (SeaweedFS).

    python benchmarks/nights.py --concepts 1000

Concepts of four small pictures lie in a bucket; they are looked at twice. What the second look asks for is what a nightly
batch pays for a concept that has not changed, before its outcome is found.
"""

import argparse
import io
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import botocore.client
import numpy as np
from PIL import Image

from tests.servers import seaweedfs
from ti_core.images.ingest import Wanted, ingest
from ti_core.settings import load_settings
from ti_core.store import open_store


def nights(concepts: int) -> None:
    """Look at concepts in a bucket twice, and count."""
    with tempfile.TemporaryDirectory() as place, seaweedfs(Path(place)) as server:
        os.environ.update(server.environment, PSEUDOWORD_HOME=f"{place}/home", PSEUDOWORD_STORE=f"{place}/store")
        settings = load_settings()
        settings.home.mkdir()  # as a run does; who only looks ahead writes nothing down
        root = f"s3://{server.bucket}/batch"
        store = open_store(settings, root)
        rng = np.random.default_rng(0)
        for number in range(concepts):
            for picture in range(4):
                buffer = io.BytesIO()
                noise = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
                Image.fromarray(noise).resize((96, 96)).save(buffer, "PNG")
                store.put(f"concept-{number:04}/{picture}.png", buffer.getvalue())
        asked, sizes, original = Counter[str](), Counter[str](), botocore.client.BaseClient._make_api_call

        def counted(self: Any, operation: str, given: Any) -> Any:
            answer = original(self, operation, given)
            asked[operation] += 1
            sizes[operation] += int(answer["ResponseMetadata"]["HTTPHeaders"].get("content-length", 0))
            return answer

        botocore.client.BaseClient._make_api_call = counted
        for which in ("first night", "second night"):
            asked.clear(), sizes.clear()
            began = time.perf_counter()
            for number in range(concepts):
                ingest(f"{root}/concept-{number:04}", Wanted(64), settings)
            seconds = time.perf_counter() - began
            each = {name: (count / concepts, sizes[name] / concepts) for name, count in asked.items()}
            print(f"{which}: requests and bytes a concept {each}, {1000 * seconds / concepts:.1f} ms a concept")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", type=int, default=1000)
    nights(parser.parse_args().concepts)
