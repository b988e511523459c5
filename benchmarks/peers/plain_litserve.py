"""A LitServe API with its batching on: up to 32 texts, up to 10 ms of waiting."""

import os
from typing import Any

import litserve
from transformers import pipeline

MAX_BATCH = 32


class Gaps(litserve.LitAPI):
    """Read texts with `transformers.pipeline`."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.read = pipeline(
            "text-classification", os.environ["MODEL"], top_k=None, device=device, truncation=True, max_length=256
        )

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the text of a request."""
        return request["text"]

    def predict(self, texts: list[str]) -> list[Any]:
        """Return the scores of a batch."""
        found: list[Any] = self.read(texts, batch_size=MAX_BATCH)
        return found

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the scores of one text."""
        return {"scores": output}


if __name__ == "__main__":
    api = Gaps(max_batch_size=MAX_BATCH, batch_timeout=0.01, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", generate_client_file=False)
