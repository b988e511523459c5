"""The shapes of requests and answers: what requests are checked against, and what OpenAPI tells."""
