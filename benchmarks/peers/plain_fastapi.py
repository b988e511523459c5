"""A FastAPI endpoint that calls `transformers.pipeline`, as the tutorials of both have it."""

import os
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

read = pipeline("text-classification", os.environ["MODEL"], top_k=None, device="cpu", truncation=True, max_length=256)
app = FastAPI()


class Question(BaseModel):
    """One text."""

    text: str


@app.post("/classify")
def classify(question: Question) -> Any:
    """Return the scores of one text."""
    return read(question.text)


@app.get("/health")
def health() -> str:
    """Answer."""
    return "ok"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
